/// The file `arr_0.npy` of bytes in a zip archive without compression: what `numpy.savez(path, array)` writes.
///
/// # Shapes
/// - values: row-major, of shape `shape`
///
/// # Panics
/// If `values` does not have the length of `shape`.
///
/// # Source
/// `NumPy` enhancement proposal 1 (format 1.0); PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12, 4.3.16 and, because sample
/// sets exceed 4 GiB, the Zip64 fields of 4.5.3, 4.3.14 and 4.3.15.
pub fn npz(values: &[u8], shape: &[usize]) -> Vec<u8> {
    assert_eq!(values.len(), shape.iter().product::<usize>(), "expected values of shape {shape:?}");
    let head = npy_head(shape);
    let size = (head.len() + values.len()) as u64;
    let sum = crc32(&[&head, values]);

    let mut archive = Vec::with_capacity(values.len() + 1024);
    archive.extend(0x0403_4b50_u32.to_le_bytes());
    archive.extend(entry(sum, 20));
    archive.extend(zip64(&[size, size]));
    archive.extend(head);
    archive.extend(values);

    let directory = archive.len() as u64;
    archive.extend(0x0201_4b50_u32.to_le_bytes());
    archive.extend(45_u16.to_le_bytes());
    let [fixed, name] = split_entry(entry(sum, 28));
    archive.extend(fixed);
    // No comment, first disk, no attributes; the offset is in the Zip64 field.
    archive.extend([0; 10]);
    archive.extend(u32::MAX.to_le_bytes());
    archive.extend(name);
    archive.extend(zip64(&[size, size, 0]));

    let end = archive.len() as u64;
    archive.extend(0x0606_4b50_u32.to_le_bytes());
    archive.extend(44_u64.to_le_bytes());
    archive.extend([45_u16, 45].map(u16::to_le_bytes).concat());
    archive.extend([0_u32; 2].map(u32::to_le_bytes).concat());
    archive.extend([1, 1, end - directory, directory].map(u64::to_le_bytes).concat());
    archive.extend(0x0706_4b50_u32.to_le_bytes());
    archive.extend(0_u32.to_le_bytes());
    archive.extend(end.to_le_bytes());
    archive.extend(1_u32.to_le_bytes());
    archive.extend(0x0605_4b50_u32.to_le_bytes());
    archive.extend([0_u16, 0, 1, 1].map(u16::to_le_bytes).concat());
    archive.extend([u32::MAX; 2].map(u32::to_le_bytes).concat());
    archive.extend(0_u16.to_le_bytes());
    archive
}

const NAME: &[u8] = b"arr_0.npy";

/// What both headers of a file share: version, no flags, stored, 1 January 1980, sum, sizes elsewhere, lengths, name.
fn entry(sum: u32, extra: u16) -> Vec<u8> {
    let mut entry = [45_u16, 0, 0, 0, 0x21].map(u16::to_le_bytes).concat();
    entry.extend([sum, u32::MAX, u32::MAX].map(u32::to_le_bytes).concat());
    entry.extend([NAME.len() as u16, extra].map(u16::to_le_bytes).concat());
    entry.extend(NAME);
    entry
}

/// The directory has more fields between the lengths and the name.
fn split_entry(mut entry: Vec<u8>) -> [Vec<u8>; 2] {
    let name = entry.split_off(entry.len() - NAME.len());
    [entry, name]
}

fn zip64(values: &[u64]) -> Vec<u8> {
    let mut field = [1, 8 * values.len() as u16].map(u16::to_le_bytes).concat();
    field.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    field
}

/// Magic, version 1.0, and a dictionary padded so that the values start at a multiple of 64.
fn npy_head(shape: &[usize]) -> Vec<u8> {
    let sides: String = shape.iter().map(|side| format!("{side}, ")).collect();
    let text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({}), }}", sides.trim_end());
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    let mut head = b"\x93NUMPY\x01\x00".to_vec();
    head.extend((length as u16).to_le_bytes());
    head.extend(format!("{text:<width$}\n", width = length - 1).into_bytes());
    head
}

/// CRC-32 of the parts one after another; polynomial 0xedb88320, reflected.
fn crc32(parts: &[&[u8]]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut value, mut bit) = (byte as u32, 0);
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[byte] = value;
            byte += 1;
        }
        table
    };
    let step = |sum: u32, byte: &u8| TABLE[usize::from(sum as u8 ^ byte)] ^ sum >> 8;
    !parts.iter().copied().flatten().fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_the_standard() {
        assert_eq!(crc32(&[b"1234", b"56789"]), 0xcbf4_3926);
    }

    #[test]
    fn headers_point_at_each_other() {
        let values: Vec<u8> = (0..24).collect();
        let file = npz(&values, &[2, 2, 2, 3]);
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| file[at + i]));
        let directory = number(file.len() - 22 - 20 - 8) as usize;
        assert_eq!(&file[directory..directory + 4], b"PK\x01\x02");
        let end = number(file.len() - 22 - 12) as usize;
        assert_eq!(&file[end..end + 4], b"PK\x06\x06");
        // The array: after a local header of 30 bytes, its name and its Zip64 field.
        let array = &file[30 + NAME.len() + 20..directory];
        assert_eq!(number(30 + NAME.len() + 4) as usize, array.len());
        assert!(array.starts_with(
            b"\x93NUMPY\x01\x00\x76\x00{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2, 2, 3,), }"
        ));
        assert_eq!(array.len(), 128 + 24);
        assert!(array.ends_with(&values));
    }
}
