"""The page and the service: a library, or a model alone, over HTTP."""
