"""The RTMP protocol core, sans-IO: bytes in, events and bytes out."""
