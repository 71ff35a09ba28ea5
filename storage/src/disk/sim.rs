//! A simulated disk whose power can be cut.
