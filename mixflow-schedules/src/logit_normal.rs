//! The logit-normal law.

use crate::{Error, TimeLaw};

/// The logit-normal law `t = 1/(1 + exp(−mean − std z))`, `z ~ N(0, 1)`.
///
/// In paper time a positive mean prefers data. Codes whose time runs from data to noise state `−mean`.
///
/// # Source
/// Esser et al. 2024 (arXiv 2403.03206), eq. 19.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitNormal {
    mean: f64,
    std: f64,
}

impl LogitNormal {
    /// The law whose logit has the given mean and standard deviation.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] unless both are finite and `std > 0`.
    pub fn new(mean: f64, std: f64) -> Result<Self, Error> {
        let mean = Error::check(mean.is_finite(), "mean", "a finite number", mean)?;
        Ok(Self { mean, std: Error::positive("std", std)? })
    }

    /// Mean and standard deviation of the logit.
    pub fn moments(&self) -> [f64; 2] {
        [self.mean, self.std]
    }
}

impl TimeLaw for LogitNormal {
    fn quantile(&self, u: f64) -> f64 {
        1.0 / (1.0 + (-self.mean - self.std * normal_quantile(u)).exp())
    }
}

/// The quantile function of the standard normal distribution, relative error about 1e-16.
///
/// # Source
/// Wichura 1988, algorithm AS 241 (PPND16), doi 10.2307/2347330.
#[allow(clippy::excessive_precision, reason = "the coefficients as they were published")]
fn normal_quantile(u: f64) -> f64 {
    const CENTRE: [[f64; 8]; 2] = [
        [
            2.509_080_928_730_122_672_7e3,
            3.343_057_558_358_812_810_5e4,
            6.726_577_092_700_870_085_3e4,
            4.592_195_393_154_987_145_7e4,
            1.373_169_376_550_946_112_5e4,
            1.971_590_950_306_551_442_7e3,
            1.331_416_678_917_843_774_5e2,
            3.387_132_872_796_366_608_0,
        ],
        [
            5.226_495_278_852_854_561_0e3,
            2.872_908_573_572_194_267_4e4,
            3.930_789_580_009_271_061_0e4,
            2.121_379_430_158_659_586_7e4,
            5.394_196_021_424_751_107_7e3,
            6.871_870_074_920_579_083_0e2,
            4.231_333_070_160_091_125_2e1,
            1.0,
        ],
    ];
    const SIDE: [[f64; 8]; 2] = [
        [
            7.745_450_142_783_414_076_40e-4,
            2.272_384_498_926_918_458_33e-2,
            2.417_807_251_774_506_117_70e-1,
            1.270_458_252_452_368_382_58,
            3.647_848_324_763_204_605_04,
            5.769_497_221_460_691_405_50,
            4.630_337_846_156_545_295_90,
            1.423_437_110_749_683_577_34,
        ],
        [
            1.050_750_071_644_416_843_24e-9,
            5.475_938_084_995_344_946_00e-4,
            1.519_866_656_361_645_719_66e-2,
            1.481_039_764_274_800_745_90e-1,
            6.897_673_349_851_000_045_50e-1,
            1.676_384_830_183_803_849_40,
            2.053_191_626_637_758_821_87,
            1.0,
        ],
    ];
    const TAIL: [[f64; 8]; 2] = [
        [
            2.010_334_399_292_288_132_65e-7,
            2.711_555_568_743_487_578_15e-5,
            1.242_660_947_388_078_438_60e-3,
            2.653_218_952_657_612_309_30e-2,
            2.965_605_718_285_048_912_30e-1,
            1.784_826_539_917_291_335_80,
            5.463_784_911_164_114_369_90,
            6.657_904_643_501_103_777_20,
        ],
        [
            2.044_263_103_389_939_785_64e-15,
            1.421_511_758_316_445_888_70e-7,
            1.846_318_317_510_054_681_80e-5,
            7.868_691_311_456_132_591_00e-4,
            1.487_536_129_085_061_485_25e-2,
            1.369_298_809_227_358_053_10e-1,
            5.998_322_065_558_879_376_90e-1,
            1.0,
        ],
    ];
    let ratio = |table: [[f64; 8]; 2], x: f64| {
        let [above, below] = table.map(|row| row.into_iter().fold(0.0, |sum, coefficient| sum * x + coefficient));
        above / below
    };

    if u <= 0.0 || u >= 1.0 {
        return if u <= 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let offset = u - 0.5;
    if offset.abs() <= 0.425 {
        return offset * ratio(CENTRE, 0.180_625 - offset * offset);
    }
    let depth = (-u.min(1.0 - u).ln()).sqrt();
    let distance = if depth <= 5.0 { ratio(SIDE, depth - 1.6) } else { ratio(TAIL, depth - 5.0) };
    distance.copysign(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `statistics.NormalDist().inv_cdf` of Python 3.11, one or more from each branch.
    #[test]
    fn normal_quantiles_match_published_values() {
        let table = [
            (1e-100, -21.273_453_560_965_32),
            (1e-10, -6.361_340_902_404_056),
            (0.01, -2.326_347_874_040_840_8),
            (0.2, -0.841_621_233_572_914_2),
            (0.425, -0.189_118_426_272_792_54),
            (0.5, 0.0),
            (0.975, 1.959_963_984_540_053_6),
            (0.999_999_999, 5.997_807_019_601_638),
        ];
        for (u, expected) in table {
            assert!((normal_quantile(u) - expected).abs() <= 4e-16 * f64::abs(expected), "{u}: {}", normal_quantile(u));
        }
    }

    #[test]
    fn the_median_is_the_sigmoid_of_the_mean() {
        let law = LogitNormal::new(0.4, 1.3).unwrap();
        assert_eq!(law.quantile(0.5), 1.0 / (1.0 + f64::exp(-0.4)));
        assert_eq!((law.quantile(0.0), law.quantile(1.0)), (0.0, 1.0));
        assert!(LogitNormal::new(f64::INFINITY, 1.0).is_err() && LogitNormal::new(0.0, 0.0).is_err());
    }
}
