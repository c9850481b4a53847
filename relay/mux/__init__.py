"""Container writers: packets to FLV, fragmented MP4 (CMAF) and MPEG-TS. No I/O."""
