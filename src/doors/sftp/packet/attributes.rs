//! Attributes of files in packets (draft-ietf-secsh-filexfer-02, section 5).

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The attributes of a file, as they are or as they are to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Length in bytes.
    pub size: Option<u64>,
    /// User and group.
    pub owner: Option<(u32, u32)>,
    /// Type and permissions, as `st_mode`.
    pub mode: Option<u32>,
    /// Time of access and of change, in seconds since 1970.
    pub times: Option<(u32, u32)>,
}

const HAS_SIZE: u32 = 0x01;
const HAS_OWNER: u32 = 0x02;
const HAS_MODE: u32 = 0x04;
const HAS_TIMES: u32 = 0x08;

impl Attributes {
    /// Reads attributes. `None` when the bytes end too early.
    pub(super) fn read(from: &mut Bytes) -> Option<Self> {
        let flags = from.try_get_u32().ok()?;
        let mut read = Self::default();
        if flags & HAS_SIZE != 0 {
            read.size = Some(from.try_get_u64().ok()?);
        }
        if flags & HAS_OWNER != 0 {
            read.owner = Some((from.try_get_u32().ok()?, from.try_get_u32().ok()?));
        }
        if flags & HAS_MODE != 0 {
            read.mode = Some(from.try_get_u32().ok()?);
        }
        if flags & HAS_TIMES != 0 {
            read.times = Some((from.try_get_u32().ok()?, from.try_get_u32().ok()?));
        }
        // Extended attributes may follow; they say nothing to us.
        Some(read)
    }

    /// Writes attributes, with the flags of those that are there.
    pub(super) fn write(&self, to: &mut BytesMut) {
        let flag = |has: bool, flag: u32| if has { flag } else { 0 };
        to.put_u32(
            flag(self.size.is_some(), HAS_SIZE)
                | flag(self.owner.is_some(), HAS_OWNER)
                | flag(self.mode.is_some(), HAS_MODE)
                | flag(self.times.is_some(), HAS_TIMES),
        );
        if let Some(size) = self.size {
            to.put_u64(size);
        }
        if let Some((user, group)) = self.owner {
            to.put_u32(user);
            to.put_u32(group);
        }
        if let Some(mode) = self.mode {
            to.put_u32(mode);
        }
        if let Some((accessed, changed)) = self.times {
            to.put_u32(accessed);
            to.put_u32(changed);
        }
    }
}
