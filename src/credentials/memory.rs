//! Memory for one run of argon2id, which goes back to the system when the run is over.

use std::io;

use argon2::Block;
use memmap2::{MmapMut, MmapOptions};

/// Blocks in a mapping of their own. Given back to the allocator they would stay with the arena of whichever thread had
/// its turn, of which there are eight for each processor: a hundred logins a day would hold hundreds of megabytes.
pub(super) struct Memory {
    mapping: MmapMut,
}

impl Memory {
    /// Room for as many blocks, all zero.
    pub(super) fn of(blocks: usize) -> io::Result<Self> {
        let bytes = blocks.checked_mul(size_of::<Block>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // All pages at once: it will write to every one.
        Ok(Self { mapping: MmapOptions::new().len(bytes).populate().map_anon()? })
    }

    pub(super) fn blocks(&mut self) -> &mut [Block] {
        // SAFETY: a block is an array of `u64`, for which every pattern of bits is a value; a mapping begins at a page,
        // which is aligned for blocks.
        #[allow(unsafe_code, reason = "blocks have no constructor from bytes")]
        let (before, blocks, after) = unsafe { self.mapping.align_to_mut::<Block>() };
        debug_assert!(before.is_empty() && after.is_empty(), "pages hold whole blocks");
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_many_blocks_as_were_asked_for() {
        for blocks in [8, 64, 19 << 10] {
            assert_eq!(Memory::of(blocks).unwrap().blocks().len(), blocks);
        }
        assert!(Memory::of(usize::MAX / 8).is_err());
    }
}
