//! What the doors count: connections and logins.

use crate::{
    metrics::{Connected, LoginFailure},
    partners::Denied,
};

use super::context::DoorContext;

impl DoorContext {
    /// A login has failed.
    pub(in crate::doors) fn login_failed(&self, denied: &Denied) {
        self.metrics.login_failed(self.counted_door, failure(denied));
    }

    /// A login has failed before partners were asked: what was shown proves nothing.
    pub(in crate::doors) fn login_proved_nothing(&self) {
        self.metrics.login_failed(self.counted_door, LoginFailure::Credentials);
    }

    /// A connection was admitted. It counts as open until what this gives is dropped.
    pub(super) fn connected(&self) -> Connected {
        self.metrics.connected(self.counted_door)
    }

    /// A connection was turned away for want of a place.
    pub(super) fn connection_refused(&self) {
        self.metrics.connection_refused(self.counted_door);
    }
}

fn failure(denied: &Denied) -> LoginFailure {
    match denied {
        Denied::Wrong => LoginFailure::Credentials,
        Denied::Wait(_) => LoginFailure::Lockout,
        Denied::KeyWanted | Denied::PasswordWanted | Denied::Expired | Denied::Address => LoginFailure::Policy,
        Denied::TooManyConnections | Denied::TooManyFromAddress | Denied::TooManySessions => LoginFailure::Limit,
        Denied::Unavailable => LoginFailure::Unavailable,
    }
}
