//! The opening paragraph, computed from the numbers so that it cannot flatter them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::per_seed::PerSeed;
use super::{Arm, Difference, Report, Verdict};
use crate::evaluation::Best;
use crate::numbers::thousands;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Summary {
    /// Data set, in words: `handwritten digits`.
    pub data: String,
    /// Image size `[channels, height, width]`.
    pub shape: [usize; 3],
    /// The same of what the network makes, where that is latents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latents: Option<[usize; 3]>,
    /// Network, in words: `a small SiT`.
    pub network: String,
    /// Trainable numbers in the network.
    pub parameters: u64,
    /// Steps of pre-training; 0 where the start was given.
    pub pretrain_steps: u64,
    /// Steps of each post-training.
    pub posttrain_steps: u64,
    /// The `gamma` of `MixFlow`, ∈ [0, 1].
    pub gamma: f64,
}

/// How two arms differ over seeds, smaller being better.
fn paired(a: &PerSeed, b: &PerSeed) -> Option<Difference> {
    a.mean().zip(b.mean())?;
    Some(Difference::new((&Arm::MixFlow, a), (&Arm::Standard, b), ("", Best::Low), 0))
}

fn compare(a: &PerSeed, b: &PerSeed) -> Option<Verdict> {
    paired(a, b).map(|difference| difference.verdict())
}

pub(super) fn text(report: &Report) -> String {
    joined([outcome(report), Some(lead(report)), done(report), floor(report)])
}

/// What follows the [`outcome`] at the head of the page.
pub(super) fn lead(report: &Report) -> String {
    joined([few(report), control(report), diversity(report)])
}

fn joined<const N: usize>(sentences: [Option<String>; N]) -> String {
    sentences.into_iter().flatten().filter(|sentence| !sentence.is_empty()).collect::<Vec<_>>().join(" ")
}

pub(super) fn done(report: &Report) -> Option<String> {
    let summary = &report.summary;
    let trained: BTreeSet<&Arm> =
        report.curves.iter().map(|curve| &curve.arm).filter(|arm| **arm != Arm::Start).collect();
    let usual = trained.is_empty() || trained.iter().copied().eq([&Arm::Standard, &Arm::MixFlow]);
    let (times, ways) = match usual {
        true => ("twice ", format!("once as before, once with MixFlow Training (γ = {})", summary.gamma)),
        false => ("", trained.iter().map(|arm| arm.name()).collect::<Vec<_>>().join(", ")),
    };
    let [channels, height, width] = summary.shape;
    (summary.posttrain_steps > 0).then(|| {
        let start = match summary.pretrain_steps {
            0 => "came with given weights".to_owned(),
            steps => format!("was trained for {} steps of flow matching", thousands(steps)),
        };
        format!(
            "{} ({} parameters) that draws {} at {height} × {width} ({} numbers per image) {start}, \
             and was then post-trained {times}from the same weights, {} steps each: {ways}.",
            capitalised(&summary.network),
            thousands(summary.parameters),
            summary.data,
            thousands((channels * height * width) as u64),
            thousands(summary.posttrain_steps),
        )
    })
}

/// `MixFlow` against standard post-training, and post-training against none.
pub(super) fn outcome(report: &Report) -> Option<String> {
    let (standard, mixflow) = (report.table.metrics(&Arm::Standard)?, report.table.metrics(&Arm::MixFlow)?);
    let frechet = paired(&mixflow.frechet, &standard.frechet)?;
    let agree = frechet.values.range().is_some_and(|(low, high)| low > 0.0 || high < 0.0);
    let frechet = frechet.verdict();
    let disagree = matches!(
        (frechet, compare(&mixflow.kernel, &standard.kernel)),
        (Verdict::Better, Some(Verdict::Worse)) | (Verdict::Worse, Some(Verdict::Better))
    );
    let opening = match (frechet, report.table.seeds()) {
        _ if disagree => "The measures disagree: MixFlow’s",
        (Verdict::Better, _) => "MixFlow won: its",
        (Verdict::Worse, _) => "MixFlow lost: its",
        (Verdict::Unclear, 1) => "With one seed nothing is decided: MixFlow’s",
        (Verdict::Unclear, _) if agree => "The seeds agree but are too few or too far apart to decide: MixFlow’s mean",
        (Verdict::Unclear, _) => "No clear winner, the seeds disagree: MixFlow’s mean",
    };
    let start = report.table.metrics(&Arm::Start).map(|start| &start.frechet).filter(|start| start.count() > 0);
    let start = start.map_or(String::new(), |start| format!("; the start had {start}"));
    let [change, numbers] = difference(&mixflow.frechet, &standard.frechet)?;
    let name = report.table.frechet_name();
    let mut text = format!("{opening} {name} is {change} than that of standard post-training ({numbers}{start})");
    if let (true, Some([change, numbers])) = (disagree, difference(&mixflow.kernel, &standard.kernel)) {
        text += &format!(", but its kernel distance is {change} ({numbers})");
    }
    Some(text + ".")
}

/// The same where the network is asked least, if that is less than in the table.
fn few(report: &Report) -> Option<String> {
    let of_mixflow = |other: &&Difference| (&other.arm, &other.than) == (&Arm::MixFlow, &Arm::Standard);
    let all = || report.differences.iter().filter(of_mixflow);
    let table = all().find(|difference| difference.measure == "recall")?.evaluations;
    let distances = all().filter(|difference| difference.measure == "Fréchet" && difference.evaluations < table);
    let few = distances.min_by_key(|difference| difference.evaluations)?;
    let (mean, [low, high]) = (few.values.mean()?, few.interval?);
    // No more decimals than the width of the interval supports.
    let decimals = (1.0 - ((high - low) / 2.0).log10().floor()).clamp(0.0, 3.0) as usize;
    let amount = |value: f64| format!("{:.decimals$}", value.abs());
    let signed = |value: f64| format!("{}{}", if value < 0.0 { "−" } else { "+" }, amount(value));
    let found = match few.verdict() {
        Verdict::Better => {
            format!("is better by {} (95 % interval {} to {})", amount(mean), amount(high), amount(low))
        }
        Verdict::Worse => format!("is worse by {} (95 % interval {} to {})", amount(mean), amount(low), amount(high)),
        Verdict::Unclear => format!("is not clearly another (95 % interval {} to {})", signed(low), signed(high)),
    };
    Some(format!(
        "With {} evaluations of the network for an image, in the place of {}, the distance of MixFlow {found}.",
        thousands(few.evaluations),
        thousands(table)
    ))
}

/// How the mean of `a` differs from that of `b`, in words and in numbers.
fn difference(a: &PerSeed, b: &PerSeed) -> Option<[String; 2]> {
    let (found, other) = (a.mean()?, b.mean()?);
    let word = if found < other { "lower" } else { "higher" };
    let change = if other > 0.0 { format!("{} {word}", percent((found / other - 1.0).abs())) } else { word.into() };
    Some([change, format!("{a} against {b}")])
}

/// A share in words: "12 %", and of small ones "0.3 %".
fn percent(share: f64) -> String {
    match 100.0 * share {
        percent if percent < 0.05 => "less than 0.1 %".into(),
        percent if percent < 0.95 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}

/// Whether rescaling the velocity alone would have done as well.
fn control(report: &Report) -> Option<String> {
    let frechet = |arm: &Arm| report.table.metrics(arm).map(|metrics| &metrics.frechet);
    let (mixflow, control) = (frechet(&Arm::MixFlow)?, frechet(&Arm::Control)?);
    let came = match compare(mixflow, control)? {
        Verdict::Better => format!("does not get there ({control})"),
        Verdict::Worse => format!("does better ({control})"),
        Verdict::Unclear if mixflow.count() > 1 => format!("is not clearly better or worse ({control})"),
        Verdict::Unclear => format!("comes to {control}"),
    };
    Some(format!("Scaling the standard network’s velocity, which costs no training, {came}."))
}

/// A smaller distance bought with less diversity is said to be so.
fn diversity(report: &Report) -> Option<String> {
    let (standard, mixflow) = (report.table.metrics(&Arm::Standard)?, report.table.metrics(&Arm::MixFlow)?);
    let [_, recall] = difference(&mixflow.recall, &standard.recall)?;
    let [_, variance] = difference(&mixflow.variance_ratio, &standard.variance_ratio)?;
    Some(format!(
        "Against standard post-training, recall {} and the variance ratio, ideally 1, is {variance}.",
        match compare(&mixflow.recall, &standard.recall)? {
            Verdict::Better => format!("fell ({recall})"),
            Verdict::Worse => format!("rose ({recall})"),
            Verdict::Unclear if mixflow.recall.count() > 1 => format!("did not clearly change ({recall})"),
            Verdict::Unclear => format!("is {recall}"),
        }
    ))
}

pub(super) fn floor(report: &Report) -> Option<String> {
    let floor = &report.table.floor.frechet;
    (floor.count() > 0).then(|| format!("Real images against other real images give {floor}."))
}

pub(super) fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(|| "A network".to_owned(), |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Curve, Metrics, Row};
    use super::*;

    fn report(standard: &[f64], mixflow: &[f64], control: &[f64]) -> String {
        let row = |arm, values: &[f64]| Row {
            arm,
            metrics: Metrics { frechet: values.iter().copied().collect(), ..Metrics::default() },
        };
        let mut report = Report::default();
        report.table.rows = vec![row(Arm::Standard, standard), row(Arm::MixFlow, mixflow), row(Arm::Control, control)];
        report.summary_text()
    }

    #[test]
    fn a_win_a_loss_and_a_draw_are_called_so() {
        let won = report(&[10.0, 11.0], &[5.0, 5.5], &[8.0, 9.0]);
        assert!(
            won.starts_with("MixFlow won") && won.contains("50 % lower") && won.contains("does not get there"),
            "{won}"
        );
        let lost = report(&[5.0, 5.5], &[10.0, 11.0], &[5.0, 5.5]);
        assert!(
            lost.starts_with("MixFlow lost") && lost.contains("100 % higher") && lost.contains("does better"),
            "{lost}"
        );
        let draw = report(&[5.0, 5.0], &[4.9, 5.1], &[5.1, 4.9]);
        assert!(draw.starts_with("No clear winner") && draw.contains("is not clearly better or worse"), "{draw}");
        let agreed = report(&[5.0, 5.0], &[4.9, 4.0], &[5.0, 5.0]);
        assert!(agreed.starts_with("The seeds agree but are too few"), "{agreed}");
        let single = report(&[5.0], &[1.0], &[5.0]);
        assert!(single.starts_with("With one seed nothing is decided"), "{single}");
        assert!(single.contains("which costs no training, comes to 5"), "{single}");
    }

    #[test]
    fn measures_that_disagree_make_no_winner() {
        let row = |arm, frechet: [f64; 2], kernel: [f64; 2]| Row {
            arm,
            metrics: Metrics { frechet: frechet.into(), kernel: kernel.into(), ..Metrics::default() },
        };
        let mut report = Report::default();
        report.table.rows =
            vec![row(Arm::Standard, [84.8, 84.9], [0.038, 0.039]), row(Arm::MixFlow, [83.8, 84.0], [0.048, 0.049])];
        let text = report.summary_text();
        let expected = "The measures disagree: MixFlow’s pixel Fréchet distance is 1 % lower than that of standard \
            post-training (83.90 ± 0.14 against 84.85 ± 0.07), but its kernel distance is 26 % higher (0.0485 ± 0.0007 against \
            0.0385 ± 0.0007).";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn few_evaluations_are_told_with_their_interval() {
        let difference = |mixflow: [f64; 3], measure: &str, best, evaluations| {
            let [a, b]: [PerSeed; 2] = [mixflow, [500.0; 3]].map(|values| values.into_iter().collect());
            Difference::new((&Arm::MixFlow, &a), (&Arm::Standard, &b), (measure, best), evaluations)
        };
        let told = |mixflow| {
            let at_most = [("Fréchet", Best::Low, 40), ("Fréchet", Best::Low, 20), ("recall", Best::High, 20)];
            let few = difference(mixflow, "Fréchet", Best::Low, 8);
            let others = at_most.map(|(measure, best, evaluations)| difference([1.0; 3], measure, best, evaluations));
            lead(&Report { differences: others.into_iter().chain([few]).collect(), ..Report::default() })
        };
        let start = "With 8 evaluations of the network for an image, in the place of 20, the distance of MixFlow";
        assert_eq!(told([440.0, 430.0, 450.0]), format!("{start} is better by 60 (95 % interval 35 to 85)."));
        assert_eq!(told([510.0, 512.0, 511.0]), format!("{start} is worse by 11.0 (95 % interval 8.5 to 13.5)."));
        let unclear = format!("{start} is not clearly another (95 % interval −110 to +70).");
        assert_eq!(told([510.0, 440.0, 490.0]), unclear);
    }

    #[test]
    fn a_small_difference_is_not_none() {
        assert_eq!([0.5, 0.0112, 0.0034, 0.0003].map(percent), ["50 %", "1 %", "0.3 %", "less than 0.1 %"]);
    }

    #[test]
    fn the_trainings_that_were_run_are_named_and_no_others() {
        let done_with = |arms: &[Arm]| {
            let curve = |arm: &Arm| Curve { arm: arm.clone(), seed: 0, points: vec![], terms: BTreeMap::new() };
            let curves = [Arm::Start].iter().chain(arms).map(curve).collect();
            let summary = Summary { posttrain_steps: 5, gamma: 0.8, ..Summary::default() };
            done(&Report { curves, summary, ..Report::default() }).unwrap()
        };
        let usual = done_with(&[Arm::Standard, Arm::MixFlow]);
        assert!(usual.ends_with(
            "twice from the same weights, 5 steps each: once as before, once with MixFlow Training (γ = 0.8)."
        ));
        let others = done_with(&[Arm::Standard, Arm::Other("beta".into())]);
        assert!(others.ends_with("post-trained from the same weights, 5 steps each: standard, beta."), "{others}");
    }

    #[test]
    fn missing_numbers_are_not_invented() {
        assert_eq!(Report::default().summary_text(), "");
        assert_eq!(report(&[f64::NAN], &[1.0], &[]), "");
    }
}
