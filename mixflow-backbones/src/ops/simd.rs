//! Loops compiled twice, for any machine and for AVX2 with FMA, the choice made at run time.

/// Defines functions whose body is also compiled for AVX2. The body calls `#[inline(always)]` functions only.
macro_rules! vectorized {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$doc])*
        #[allow(unsafe_code, reason = "calls a copy of the function that requires detected processor features")]
        #[allow(clippy::too_many_arguments, reason = "a flat loop over several arrays")]
        pub(super) fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn portable($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    portable($($arg),*)
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the function is safe on a processor with these features, and this is one.
                    return unsafe { avx2($($arg),*) };
                }
            }
            portable($($arg),*)
        }
    )*};
}
pub(super) use vectorized;

/// `exp(x)`, relative error below 2e-7, for `x` within ±87 and its limits beyond.
///
/// # Source
/// Cephes `expf`: reduction by `ln 2` in two parts, polynomial of degree 5.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 × 2²³: adding it rounds to an integer
    let x = x.clamp(-87.0, 87.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND; // its lowest bits are the integer
    let n = rounded - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = 1.987_569_1e-4_f32;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    p * f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23))
}

/// Logistic function `1 / (1 + exp(-x))`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

const LANES: usize = 32;

/// Folds `f(index)` over `0..len` in `LANES` independent accumulators, then those in order.
#[inline(always)]
pub(super) fn fold(len: usize, start: f32, f: impl Fn(usize) -> f32, op: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let whole = len / LANES * LANES;
    for index in (0..whole).step_by(LANES) {
        for (lane, value) in lanes.iter_mut().enumerate() {
            *value = op(*value, f(index + lane));
        }
    }
    for (lane, index) in (whole..len).enumerate() {
        lanes[lane] = op(lanes[lane], f(index));
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = op(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Sum of `f(index)` over `0..len`.
#[inline(always)]
pub(super) fn sum(len: usize, f: impl Fn(usize) -> f32) -> f32 {
    fold(len, 0.0, f, |a, b| a + b)
}

vectorized! {
    /// Adds every row of `matrix` to `total`.
    fn add_rows(total: &mut [f32], matrix: &[f32]) {
        for row in matrix.chunks_exact(total.len()) {
            for (total, value) in total.iter_mut().zip(row) {
                *total += value;
            }
        }
    }
}
