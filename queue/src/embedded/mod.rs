//! The embedded queue: a journal, which is the truth, and sled, an index of it.
