//! Bytes in a directory, with fsync discipline.
