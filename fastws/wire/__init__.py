"""Sans-I/O protocol machines: bytes in, events and bytes out.

Nothing below this package opens a socket, reads a clock or draws randomness;
whoever drives a machine passes these in. Peer mistakes are ``RemoteProtocolError``
and carry what to answer; our own mistakes are ``LocalProtocolError``. Names are
imported from their modules, so that a program loads only the machines it drives.
"""
