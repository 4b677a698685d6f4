"""JSON documents that jobs write and reports read: each field is declared once, for the writer and every reader."""
