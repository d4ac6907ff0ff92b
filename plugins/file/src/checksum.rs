//! CRC-32C (Castagnoli), eight bytes at a step: wasm has no instruction for it.

/// Reflected polynomial 0x1EDC6F41.
const POLYNOMIAL: u32 = 0x82f6_3b78;

static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let previous = tables[table - 1][byte];
            tables[table][byte] = (previous >> 8) ^ tables[0][(previous & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// The checksum of what was given to it so far, in order.
#[derive(Clone, Copy, Debug)]
pub struct Checksum(u32);

impl Checksum {
    pub fn new() -> Self {
        Self(u32::MAX)
    }

    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        let mut crc = self.0;
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            let [a, b, c, d, e, f, g, h] = *word;
            let low = crc ^ u32::from_le_bytes([a, b, c, d]);
            crc = entry(7, low) ^ entry(6, low >> 8) ^ entry(5, low >> 16) ^ entry(4, low >> 24);
            crc ^= entry(3, u32::from(e)) ^ entry(2, u32::from(f)) ^ entry(1, u32::from(g)) ^ entry(0, u32::from(h));
        }
        for byte in rest {
            crc = (crc >> 8) ^ entry(0, crc ^ u32::from(*byte));
        }
        Self(crc)
    }

    pub fn value(self) -> u32 {
        !self.0
    }
}

fn entry(table: usize, index: u32) -> u32 {
    TABLES[table][(index & 0xff) as usize]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(bytes: &[u8]) -> u32 {
        Checksum::new().with(bytes).value()
    }

    /// RFC 3720, B.4.
    #[test]
    fn agrees_with_the_published_examples() {
        assert_eq!(of(b""), 0);
        assert_eq!(of(b"123456789"), 0xe306_9283);
        assert_eq!(of(&[0; 32]), 0x8a91_36aa);
        assert_eq!(of(&[0xff; 32]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(of(&ascending), 0x46dd_794e);
    }

    proptest! {
        #[test]
        fn pieces_give_the_checksum_of_the_whole(bytes: Vec<u8>, cut: prop::sample::Index) {
            let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(Checksum::new().with(head).with(tail).value(), of(&bytes));
        }
    }
}
