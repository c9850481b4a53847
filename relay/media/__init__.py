"""The media model: packets, tracks, codec knowledge, the timeline. No I/O."""
