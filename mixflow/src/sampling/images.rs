//! Generated images, as numbers.

/// Generated images.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// `[count, channels, height, width]`, in [−1, 1] unless the network leaves it.
    pub pixels: Vec<f32>,
    /// Their shape.
    pub shape: [usize; 4],
    /// Network evaluations for each image; a guided step counts both networks. With an adaptive solver, of the batch that
    /// took most.
    pub evaluations: usize,
}
