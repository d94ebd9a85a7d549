"""The command line: arguments and variables become specs, ``fastws.app`` runs them."""
