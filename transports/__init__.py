"""Transports: ordered, bounded, at-most-once message channels between endpoints.

``base`` is the contract, ``conformance`` the suite every transport is held to. Nothing here knows the runtime above.
"""
