//! Numbers of 8 bits as the same in half precision.

use safetensors::Dtype;

/// `bytes` of a file in half precision, exactly, if they are numbers of 8 bits; otherwise as they are.
///
/// # Source
/// Micikevicius et al. 2022 (arXiv 2209.05433), table 1: E4M3, without infinities, and E5M2.
pub(super) fn widened(bytes: Vec<u8>, dtype: Dtype) -> Vec<u8> {
    let half: fn(u8) -> u16 = match dtype {
        Dtype::F8_E4M3 => from_e4m3,
        Dtype::F8_E5M2 => |bits| u16::from(bits) << 8,
        _ => return bytes,
    };
    let table: [_; 256] = std::array::from_fn(|bits| half(bits as u8).to_ne_bytes());
    bytes.iter().map(|&bits| table[usize::from(bits)]).collect::<Vec<_>>().into_flattened()
}

fn from_e4m3(bits: u8) -> u16 {
    const NAN: u16 = 0x7e00;
    /// Multiples of 2⁻⁹.
    const SMALLEST: [u16; 8] = [0, 0x1800, 0x1c00, 0x1e00, 0x2000, 0x2100, 0x2200, 0x2300];
    let [sign, rest] = [bits & 0x80, bits & 0x7f].map(u16::from);
    let magnitude = match rest {
        0..8 => SMALLEST[usize::from(rest)],
        0x7f => NAN,
        // Exponents are counted from 2⁻⁷ there and from 2⁻¹⁵ here.
        _ => (rest << 7) + (8 << 10),
    };
    sign << 8 | magnitude
}
