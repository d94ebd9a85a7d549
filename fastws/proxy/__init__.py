"""The forward proxy on any stream: HTTP, CONNECT and SOCKS5 on one port."""
