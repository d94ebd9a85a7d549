"""HTTP beside the upgrade: who may ask, and files to hand out."""
