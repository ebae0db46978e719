//! Embedded pairs of Runge–Kutta methods.

use serde::{Deserialize, Serialize};

use super::tableau::Tableau;

/// A Runge–Kutta method with another inside it, whose difference estimates the error of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pair {
    /// Dormand and Prince 1980: fifth order, six evaluations per step tried (`dopri5`).
    #[serde(rename = "dormand-prince-5")]
    DormandPrince5,
    /// Bogacki and Shampine 1989: third order, three evaluations per step tried (`bosh3`).
    #[serde(rename = "bogacki-shampine-3")]
    BogackiShampine3,
    /// Heun's method with Euler's inside: second order, one evaluation per step tried (`adaptive_heun`).
    ///
    /// A step starts with the last slope of the one before, which torchdiffeq takes at the end of Euler's step.
    HeunEuler,
}

impl Pair {
    pub(super) fn weights(self) -> &'static Weights {
        match self {
            Self::DormandPrince5 => &DORMAND_PRINCE_5,
            Self::BogackiShampine3 => &BOGACKI_SHAMPINE_3,
            Self::HeunEuler => &HEUN_EULER,
        }
    }
}

/// The numbers of a pair.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) tableau: Tableau,
    pub(super) order: f64,
    /// Weights of the slopes in the difference of both methods.
    pub(super) error: &'static [f64],
    /// Weights of the slopes in the state after half a step.
    pub(super) middle: &'static [f64],
}

static DORMAND_PRINCE_5: Weights = Weights {
    tableau: Tableau {
        nodes: &[1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0, 1.0],
        stages: &[
            &[1.0 / 5.0],
            &[3.0 / 40.0, 9.0 / 40.0],
            &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
            &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
            &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
            &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0],
        ],
        end: None,
    },
    order: 5.0,
    // Torchdiffeq takes the embedded solution of Shampine 1986, not the one of the original paper.
    error: &[
        35.0 / 384.0 - 1951.0 / 21600.0,
        0.0,
        500.0 / 1113.0 - 22642.0 / 50085.0,
        125.0 / 192.0 - 451.0 / 720.0,
        -2187.0 / 6784.0 + 12231.0 / 42400.0,
        11.0 / 84.0 - 649.0 / 6300.0,
        -1.0 / 60.0,
    ],
    // To fourth order (Shampine 1986).
    middle: &[
        6025192743.0 / 30085553152.0 / 2.0,
        0.0,
        51252292925.0 / 65400821598.0 / 2.0,
        -2691868925.0 / 45128329728.0 / 2.0,
        187940372067.0 / 1594534317056.0 / 2.0,
        -1776094331.0 / 19743644256.0 / 2.0,
        11237099.0 / 235043384.0 / 2.0,
    ],
};

static BOGACKI_SHAMPINE_3: Weights = Weights {
    tableau: Tableau {
        nodes: &[1.0 / 2.0, 3.0 / 4.0, 1.0],
        stages: &[&[1.0 / 2.0], &[0.0, 3.0 / 4.0], &[2.0 / 9.0, 1.0 / 3.0, 4.0 / 9.0]],
        end: None,
    },
    order: 3.0,
    error: &[2.0 / 9.0 - 7.0 / 24.0, 1.0 / 3.0 - 1.0 / 4.0, 4.0 / 9.0 - 1.0 / 3.0, -1.0 / 8.0],
    middle: &[0.0, 1.0 / 2.0, 0.0, 0.0],
};

static HEUN_EULER: Weights = Weights {
    tableau: Tableau { nodes: &[1.0], stages: &[&[1.0]], end: Some(&[1.0 / 2.0, 1.0 / 2.0]) },
    order: 2.0,
    error: &[1.0 / 2.0, -1.0 / 2.0],
    middle: &[1.0 / 2.0, 0.0],
};
