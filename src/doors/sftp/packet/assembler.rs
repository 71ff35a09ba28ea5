//! From bytes as they come to whole packets.
//!
//! Each packet begins with its length in four bytes, big-endian (draft-ietf-secsh-filexfer-02, 3).
//! The length is judged before anything is kept for it. Bytes that came in one piece are not
//! copied.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{Broken, LENGTH_BYTES, MAX_PACKET_BYTES};

/// Pieces of a packet that are kept as they came.
pub(super) const MOST_PIECES: usize = 64;

/// Puts packets together from pieces.
#[derive(Debug, Default)]
pub struct Assembler {
    pub(super) pieces: VecDeque<Bytes>,
    have: usize,
}

impl Assembler {
    /// Takes the next piece. Ask for packets until there is none, or it grows.
    pub fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.have += piece.len();
        self.pieces.push_back(piece);
        // Each piece costs more than its bytes: a client that sends one at a time must not make us hold the sum.
        if self.pieces.len() > MOST_PIECES {
            let mut pieces = self.pieces.drain(..);
            let mut whole = pieces.next().map(BytesMut::from).unwrap_or_default();
            pieces.by_ref().for_each(|piece| whole.extend_from_slice(&piece));
            drop(pieces);
            self.pieces.push_back(whole.freeze());
        }
    }

    /// Bytes that are held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.have
    }

    /// The next packet without its length, when all of it is there. One that came in one piece is not copied.
    ///
    /// # Errors
    /// [`Broken::TooLong`] as soon as the length is there; [`Broken::Empty`].
    pub fn next_packet(&mut self) -> Result<Option<Bytes>, Broken> {
        if self.have < LENGTH_BYTES {
            return Ok(None);
        }
        let mut length = [0; LENGTH_BYTES];
        let bytes = self.pieces.iter().flat_map(|piece| piece.iter());
        bytes.zip(&mut length).for_each(|(byte, place)| *place = *byte);
        let length = u32::from_be_bytes(length);
        if length == 0 {
            return Err(Broken::Empty);
        }
        if length as usize > MAX_PACKET_BYTES {
            return Err(Broken::TooLong(length));
        }
        if self.have < LENGTH_BYTES + length as usize {
            return Ok(None);
        }
        drop(self.take(LENGTH_BYTES));
        Ok(Some(self.take(length as usize)))
    }

    /// As many bytes as are there at least.
    fn take(&mut self, count: usize) -> Bytes {
        self.have -= count;
        if let Some(first) = self.pieces.front_mut()
            && first.len() >= count
        {
            let taken = first.split_to(count);
            if first.is_empty() {
                self.pieces.pop_front();
            }
            return taken;
        }
        let mut taken = BytesMut::with_capacity(count);
        while let Some(mut piece) = self.pieces.pop_front() {
            let wanted = (count - taken.len()).min(piece.len());
            taken.extend_from_slice(&piece.split_to(wanted));
            if !piece.is_empty() {
                self.pieces.push_front(piece);
            }
            if taken.len() == count {
                break;
            }
        }
        taken.freeze()
    }
}
