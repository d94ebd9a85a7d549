"""The WebSocket library: messages in callbacks, and what stands on them."""
