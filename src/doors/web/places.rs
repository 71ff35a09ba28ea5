//! Places for connections of the web: so many in all, and so many of one address.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

use crate::partners::Origin;

/// The places of a listener.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    most_of_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_origin: HashMap<Origin, usize>,
}

/// The place of a connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    origin: Origin,
}

impl Places {
    /// All free.
    pub(super) fn new(most: usize, most_of_address: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_address, taken: Mutex::default() })
    }

    /// A place for a connection, if there is one for its address.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let origin = Origin::of(peer);
        let mut taken = self.taken.lock();
        let of_origin = taken.by_origin.get(&origin).copied().unwrap_or_default();
        if taken.all >= self.most || of_origin >= self.most_of_address {
            return None;
        }
        taken.all += 1;
        taken.by_origin.insert(origin, of_origin + 1);
        Some(Place { places: Arc::clone(self), origin })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        if let Some(count) = taken.by_origin.get_mut(&self.origin) {
            *count -= 1;
            if *count == 0 {
                taken.by_origin.remove(&self.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_have_them_all() {
        let places = Places::new(5, 3);
        let take = |from: &str| places.take(from.parse().unwrap());
        let held: Vec<_> = std::iter::from_fn(|| take("192.0.2.1")).collect();
        assert_eq!(held.len(), 3);
        let others = [take("2001:db8::1").unwrap(), take("2001:db8::2").unwrap()];
        assert!(take("192.0.2.2").is_none(), "there are five");
        drop(held);
        assert!(take("2001:db8::3").is_some() && take("192.0.2.1").is_some());
        drop(others);
        let taken = places.taken.lock();
        assert_eq!((taken.all, taken.by_origin.len()), (0, 0));
    }
}
