"""The version, for modules that the package's face imports."""

__version__ = "0.1.0"
