use super::features::at_least;
use super::{Error, Features, Spread};

/// Inception score: `exp` of the mean `KL(p(y|x) | p(y))`, over consecutive splits; 1 to the number of classes.
///
/// Reads the logits of the classifier, `[images, classes]`, and their softmax as `p(y|x)`. Splits are consecutive runs of
/// `split_size` rows, the last one perhaps shorter, and count equally. ADM takes 5,000 and logits *without* the bias of
/// the last layer; torch-fidelity shuffles the rows first (pass [`Features::select`] of its order).
///
/// # Source
/// Salimans et al. 2016 (arXiv 1606.03498), section 4; guided-diffusion `evaluations/evaluator.py`, commit 22e0df8.
///
/// # Errors
/// [`Error::Zero`] for a split size of zero, [`Error::TooFewRows`] without rows.
pub fn inception_score(logits: &Features, split_size: usize) -> Result<Spread, Error> {
    if split_size == 0 {
        return Err(Error::Zero { name: "a split size" });
    }
    at_least(logits.rows(), 1, "an inception score")?;
    let rows: Vec<_> = logits.iter().map(log_softmax).collect();
    Ok(Spread::of(rows.chunks(split_size).map(score).collect()))
}

/// `exp((1/n) Σ_x Σ_y p(y|x) (log p(y|x) − log p(y)))`; a class that no row of the split reaches counts 0.
fn score(log_probabilities: &[Vec<f64>]) -> f64 {
    let count = log_probabilities.len() as f64;
    let mut marginal = vec![0.0; log_probabilities[0].len()];
    for row in log_probabilities {
        for (sum, log_p) in marginal.iter_mut().zip(row) {
            *sum += log_p.exp() / count;
        }
    }
    let divergence = |row: &Vec<f64>| -> f64 {
        let terms = row.iter().zip(&marginal).map(|(log_p, mean)| (log_p.exp(), log_p - mean.ln()));
        terms.filter(|&(p, _)| p > 0.0).map(|(p, log_ratio)| p * log_ratio).sum()
    };
    (log_probabilities.iter().map(divergence).sum::<f64>() / count).exp()
}

fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = logits.iter().map(|x| (x - largest).exp()).sum::<f64>().ln();
    logits.iter().map(|x| x - largest - log_sum).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    fn logits(fixture: &Fixture) -> Features {
        let features = fixture.features("in.features");
        let weight = fixture.features("in.weight");
        let class = |row: &[f64], c: usize| row.iter().zip(weight.iter()).map(|(x, w)| x * w[c]).sum();
        let values = features.iter().flat_map(|row| (0..50).map(|c| class(row, c)).collect::<Vec<f64>>()).collect();
        Features::new(200, 50, values).unwrap()
    }

    #[test]
    fn consecutive_splits_match_adm() {
        let fixture = Fixture::load("metrics/inception_score");
        let found = inception_score(&logits(&fixture), 20).unwrap();
        fixture.assert_close(&found.parts, &fixture.tensor("out.adm_split_scores"));
        fixture.assert_close(&[found.mean], &[fixture.scalar("is_adm_float64")]);
    }

    #[test]
    fn permuted_splits_match_torch_fidelity() {
        let fixture = Fixture::load("metrics/inception_score");
        let order: Vec<_> = fixture.tensor("in.permutation_2020").iter().map(|&i| i as usize).collect();
        let found = inception_score(&logits(&fixture).select(&order), 20).unwrap();
        fixture.assert_close(&[found.mean], &[fixture.scalar("is_torch_fidelity_mean")]);
        fixture.assert_close(&[found.deviation], &[fixture.scalar("is_torch_fidelity_std")]);
    }

    #[test]
    fn bounds_are_reached() {
        // Certain and evenly spread over 4 classes: 4. The same answer for all: 1.
        let certain = Features::new(4, 4, (0..16).map(|i| if i % 5 == 0 { 2000.0 } else { 0.0 }).collect()).unwrap();
        assert!((inception_score(&certain, 4).unwrap().mean - 4.0).abs() < 1e-12);
        let same = Features::new(4, 4, [0.3, 0.1, 0.7, 0.2].repeat(4)).unwrap();
        assert!((inception_score(&same, 4).unwrap().mean - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_shorter_last_split_counts_like_the_others() {
        let fixture = Fixture::load("metrics/inception_score");
        let found = inception_score(&logits(&fixture), 150).unwrap();
        assert_eq!(found.parts.len(), 2);
        assert_eq!(found.mean, (found.parts[0] + found.parts[1]) / 2.0);
        assert!(inception_score(&logits(&fixture), 0).is_err());
    }
}
