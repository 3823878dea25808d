from .client import SQLiteConnectionPool as SQLiteConnectionPool
