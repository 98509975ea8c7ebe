from tests.served import serve, served

__all__ = ["serve", "served"]
