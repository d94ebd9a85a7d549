"""HTTP/1: messages in both roles, who may ask, and files to hand out."""
