use std::io::Cursor;
use std::path::Path;

use crate::Error;
use crate::evaluation::metric::Gaussian;
use crate::files::npz::{ElementType, Npz, NpzWriter};
use crate::files::write_atomic;

/// Mean and covariance of features: all that FID and sFID read of a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Of the 2048 pool features.
    pub pool: Gaussian,
    /// Of the 2023 spatial features; statistics of pytorch-fid lack them.
    pub spatial: Option<Gaussian>,
}

/// Most features that statistics are read for: a file may say any number.
const WIDEST: usize = 4096;

impl Statistics {
    /// Whether an archive has statistics.
    pub fn are_in(archive: &Npz) -> bool {
        archive.has("mu") && archive.has("sigma")
    }

    /// Reads `mu` and `sigma`, and `mu_s` and `sigma_s` where they are: reference batches of guided-diffusion, and
    /// statistics of pytorch-fid.
    ///
    /// # Errors
    /// If an array is missing, damaged, of another shape or no covariance.
    pub fn read(archive: &mut Npz) -> Result<Self, Error> {
        let spatial = archive.has("mu_s") && archive.has("sigma_s");
        Ok(Self {
            pool: gaussian(archive, "mu", "sigma")?,
            spatial: spatial.then(|| gaussian(archive, "mu_s", "sigma_s")).transpose()?,
        })
    }

    /// Writes what [`read`](Self::read) and guided-diffusion's evaluator read.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let bytes = || {
            let mut writer = NpzWriter::new(Cursor::new(vec![]));
            let spatial = self.spatial.iter().map(|gaussian| ("mu_s", "sigma_s", gaussian));
            for (mean, covariance, gaussian) in [("mu", "sigma", &self.pool)].into_iter().chain(spatial) {
                let width = gaussian.mean().len();
                for (name, shape, values) in
                    [(mean, &[width][..], gaussian.mean()), (covariance, &[width, width], gaussian.covariance())]
                {
                    writer.array(name, ElementType::F64, shape)?;
                    writer.write(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())?;
                }
            }
            writer.finish()
        };
        write_atomic(path, bytes().map_err(Error::io("write", path))?.get_ref())
    }
}

/// The number of images behind published statistics is not in their files: it is 0 here.
fn gaussian(archive: &mut Npz, mean: &str, covariance: &str) -> Result<Gaussian, Error> {
    let (mean, covariance) = (archive.array(mean)?, archive.array(covariance)?);
    let width = match *mean.shape() {
        [width] if width <= WIDEST => width,
        ref other => return Err(mean.fault(format!("expected {WIDEST} features or fewer, found shape {other:?}"))),
    };
    if covariance.shape() != [width, width] {
        let found = covariance.shape();
        return Err(covariance.fault(format!("expected shape [{width}, {width}], found {found:?}")));
    }
    Ok(Gaussian::new(mean.values()?, covariance.values()?, 0)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::evaluation::metric::fixture::noise;

    fn written(statistics: &Statistics) -> Result<Statistics, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.npz");
        statistics.write(&path)?;
        Statistics::read(&mut Npz::open(&path)?)
    }

    #[test]
    fn statistics_survive_the_way_to_a_file_and_back() {
        let [pool, spatial] = [(20, 5), (20, 3)].map(|(rows, columns)| {
            let made = Gaussian::from_features(&noise(rows, columns, 1)).unwrap();
            // Files do not say the number of images.
            Gaussian::new(made.mean().to_vec(), made.covariance().to_vec(), 0).unwrap()
        });
        for spatial in [Some(spatial), None] {
            let statistics = Statistics { pool: pool.clone(), spatial };
            assert_eq!(written(&statistics).unwrap(), statistics);
        }
    }

    #[test]
    fn statistics_of_other_features_are_refused_before_images_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.npz");
        let pool = Gaussian::from_features(&noise(20, 5, 1)).unwrap();
        Statistics { pool, spatial: None }.write(&path).unwrap();
        let message = crate::evaluation::inception::InceptionSet::check(&path).unwrap_err().to_string();
        assert!(message.contains("expected 2048 features") && message.contains("found 5"), "{message}");
    }

    #[test]
    fn other_shapes_are_refused_before_they_are_read() {
        let folder = tempfile::tempdir().unwrap();
        for (mean, covariance, word) in
            [(&[3][..], &[3, 4][..], "[3, 3]"), (&[5000], &[5000, 5000], "4096 features"), (&[3, 1], &[3, 3], "[3, 1]")]
        {
            let mut writer = NpzWriter::new(Cursor::new(vec![]));
            for (name, shape) in [("mu", mean), ("sigma", covariance)] {
                writer.array(name, ElementType::U8, shape).unwrap();
                writer.write(&vec![0; shape.iter().product()]).unwrap();
            }
            let path = folder.path().join("wrong.npz");
            fs::write(&path, writer.finish().unwrap().into_inner()).unwrap();
            let message = Statistics::read(&mut Npz::open(&path).unwrap()).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
