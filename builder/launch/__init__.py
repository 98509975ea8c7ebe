"""From an image to a service: deploy.toml describes it once, each platform has one module.

`render` turns the description into what the platform reads and is pure; `apply` makes it so.
"""
