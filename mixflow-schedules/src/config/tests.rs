use super::*;
use crate::Reversed;

fn times(json: &str) -> TimestepConfig {
    serde_json::from_str(json).unwrap()
}

fn refused<T: serde::de::DeserializeOwned + fmt::Debug>(json: &str, words: &str) {
    let error = serde_json::from_str::<T>(json).unwrap_err().to_string();
    assert!(error.contains(words), "{json}: {error}");
}

#[test]
fn schedules_read_from_recipes() {
    let read = |json| serde_json::from_str::<ScheduleConfig>(json).unwrap();
    assert_eq!(read(r#"{"kind": "linear", "reversed": true}"#).at(0.3), Reversed(Linear).at(0.3));
    let scaled = Scaled { path: Linear, noise: 2.0 };
    assert_eq!(read(r#"{"kind": "linear", "noise": 2}"#).at(0.3), scaled.at(0.3));
    // A recipe that was stored before there was noise to choose is the same text still.
    assert_eq!(serde_json::to_string(&ScheduleConfig::default()).unwrap(), r#"{"kind":"linear","reversed":false}"#);
    refused::<ScheduleConfig>(r#"{"kind": "linear", "noise": 0}"#, "`noise` must be a finite number above 0, found 0");
    assert_eq!(read(r#"{"kind": "cosine"}"#).at(0.3), Cosine.at(0.3));
    assert_eq!(read(r#"{"kind": "vp"}"#).at(0.3), VariancePreserving::default().at(0.3));
    assert_eq!(read(r#"{"kind": "ddpm"}"#).at(0.3), Ddpm.at(0.3));
    refused::<ScheduleConfig>(r#"{"kind": "ddpm", "reversed": true}"#, "unknown field `reversed`");
    refused::<ScheduleConfig>(r#"{"kind": "vp", "beta_min": 0}"#, "must be a finite number above 0, found 0");
    refused::<ScheduleConfig>(r#"{"kind": "gvp"}"#, "unknown variant `gvp`, expected one of `linear`");
    refused::<ScheduleConfig>(r#"{"kind": "linear", "reverse": true}"#, "unknown field `reverse`");
}

#[test]
fn mixflow_means_beta_two_one_unless_it_says_otherwise() {
    let u = [0.3, 0.7];
    assert_eq!(times(r#"{"kind": "mixflow", "gamma": 0.8}"#).timestep(u), MixFlow::new(0.8).timestep(u));
    let uniform = times(r#"{"kind": "mixflow", "gamma": 0.8, "base": {"kind": "uniform"}}"#);
    assert_eq!(uniform.timestep(u), MixFlow::wrap(0.8, Uniform).timestep(u));
    assert_eq!(TimestepConfig::default().timestep(u), Uniform.timestep(u));
}

#[test]
fn a_competing_law_is_refused() {
    let sentence = "`mixflow` must be the outermost timestep law";
    let inner = r#"{"kind": "mixflow", "gamma": 0.4}"#;
    refused::<TimestepConfig>(&format!(r#"{{"kind": "mixflow", "gamma": 0.4, "base": {inner}}}"#), sentence);
    refused::<TimestepConfig>(&format!(r#"{{"kind": "shifted", "shift": 6.93, "base": {inner}}}"#), sentence);
    refused::<TimestepConfig>(&format!(r#"{{"kind": "truncated", "end": 0.9, "base": {inner}}}"#), sentence);
    refused::<LawConfig>(inner, sentence);
    refused::<TimestepConfig>(r#"{"kind": "mixflow", "gamma": 0.4, "mean": 0, "std": 1}"#, "unknown field `mean`");
    refused::<TimestepConfig>(
        r#"{"kind": "logit-normal", "mean": 0, "std": 1, "gamma": 0.4}"#,
        "unknown field `gamma`",
    );
    refused::<TimestepConfig>(r#"{"kind": "uniform", "gamma": 0.4}"#, "unknown field `gamma`");
}

#[test]
fn numbers_out_of_range_are_refused_in_words() {
    refused::<TimestepConfig>(r#"{"kind": "mixflow"}"#, "missing field `gamma`");
    refused::<TimestepConfig>(r#"{"kind": "mixflow", "gamma": 1.5}"#, "`gamma` must be in [0, 1], found 1.5");
    refused::<TimestepConfig>(r#"{"kind": "beta", "alpha": 0, "beta": 1}"#, "`alpha` must be in [0.01, 1000], found 0");
    let shifted = r#"{"kind": "shifted", "shift": -2, "base": {"kind": "uniform"}}"#;
    refused::<TimestepConfig>(shifted, "`shift` must be a finite number above 0, found -2");
    let empty = r#"{"kind": "truncated", "start": 1, "base": {"kind": "uniform"}}"#;
    refused::<TimestepConfig>(empty, "the interval from 1 to 1 is empty");
}

#[test]
fn the_label_of_mixflow_keeps_what_is_around_the_uniform_law() {
    let law = |json: &str| serde_json::from_str::<LawConfig>(json).unwrap();
    let around = |inside: &str| {
        format!(
            r#"{{"kind":"shifted","shift":2,"base":{{"kind":"angular","base":{{"kind":"truncated","start":0.1,"end":0.9,
            "base":{inside}}}}}}}"#
        )
    };
    let label = law(&around(r#"{"kind":"uniform"}"#)).mixflow_label().unwrap();
    assert_eq!(label, law(&around(r#"{"kind":"beta","alpha":2,"beta":1}"#)));
    assert_eq!(label.mixflow_label().unwrap(), label);
    assert_eq!(label.to_string(), "Beta(2, 1) between 0.1 and 0.9 carried to the cosine path shifted by 2");
    // By hand: t² is uniform on [0.1², 0.9²], then (2/π) atan(t/(1 − t)), then t/(t + 2(1 − t)).
    let t = (0.01f64 + 0.8 * 0.3).sqrt();
    let t = std::f64::consts::FRAC_2_PI * (t / (1.0 - t)).atan();
    assert!((label.quantile(0.3) - t / (t + 2.0 * (1.0 - t))).abs() < 1e-14);

    for (inside, words) in [
        (r#"{"kind":"logit-normal","mean":0,"std":1}"#, "the times are logit-normal(0, 1) between 0.1 and 0.9"),
        (r#"{"kind":"beta","alpha":1,"beta":2}"#, "the times are Beta(1, 2) between"),
    ] {
        let error = law(&around(inside)).mixflow_label().unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("shifted by 2"), "{error}");
    }
    let early = law(r#"{"kind":"truncated","start":0,"end":0.00001,"base":{"kind":"uniform"}}"#);
    assert!(matches!(early.mixflow_label(), Err(Error::Interval { .. })));
}

#[test]
fn recipes_survive_a_round_trip() {
    let json = r#"{"kind":"mixflow","gamma":0.4,"base":{"kind":"shifted","shift":6.93,"base":{"kind":"truncated","start":0.0,"end":0.999,"base":{"kind":"logit-normal","mean":-0.5,"std":0.8}}}}"#;
    assert_eq!(serde_json::to_string(&times(json)).unwrap(), json);
    let angular = r#"{"kind":"angular","base":{"kind":"logit-normal","mean":0.0,"std":1.0}}"#;
    for json in [angular, r#"{"kind":"uniform"}"#, r#"{"kind":"beta","alpha":2.0,"beta":1.0}"#] {
        assert_eq!(serde_json::to_string(&times(json)).unwrap(), json);
    }
}

/// Table 5 of the paper, but for its own law.
#[test]
fn the_ablations_of_the_paper_are_laws() {
    let u = [0.25, 0.6];
    for (json, t, m, words) in [
        (r#"{"kind":"beta","alpha":2.0,"beta":1.0}"#, 0.5, 0.5, "t: Beta(2, 1), m = t"),
        (r#"{"kind":"independent","base":{"kind":"uniform"}}"#, 0.25, 0.6, "t: uniform, m ~ U[0, 1]"),
        (
            r#"{"kind":"independent","base":{"kind":"beta","alpha":2.0,"beta":1.0}}"#,
            0.5,
            0.6,
            "t: Beta(2, 1), m ~ U[0, 1]",
        ),
        (
            r#"{"kind":"mixflow","gamma":1.0,"base":{"kind":"uniform"}}"#,
            0.25,
            0.25 * (1.0 - 0.6),
            "t: uniform, m ~ U[(1 − 1) t, t]",
        ),
    ] {
        let law = times(json);
        assert_eq!(law.timestep(u), Timestep { t, m }, "{json}");
        assert_eq!((serde_json::to_string(&law).unwrap().as_str(), law.to_string().as_str()), (json, words));
    }
    let inner = r#"{"kind":"shifted","shift":2,"base":{"kind":"independent","base":{"kind":"uniform"}}}"#;
    refused::<TimestepConfig>(inner, "`independent` must be the outermost timestep law");
}

#[test]
fn a_shift_for_other_latents_is_found_wherever_it_is() {
    for json in [
        r#"{"kind": "shifted", "shift": {"tokens": 64}, "base": {"kind": "uniform"}}"#,
        r#"{"kind": "mixflow", "gamma": 0.8, "base": {"kind": "truncated", "end": 0.9, "base": {"kind": "shifted",
            "shift": {"tokens": 64}, "base": {"kind": "beta", "alpha": 2, "beta": 1}}}}"#,
        r#"{"kind": "independent", "base": {"kind": "shifted", "shift": 3, "base": {"kind": "shifted",
            "shift": {"tokens": 64}, "base": {"kind": "uniform"}}}}"#,
    ] {
        let times: TimestepConfig = serde_json::from_str(json).unwrap();
        assert_eq!(times.check_latents([16, 16]), Ok(()));
        assert_eq!(times.check_latents([16, 32]), Err(Error::Tokens { expected: 128, found: 64 }));
        let back: TimestepConfig = serde_json::from_str(&serde_json::to_string(&times).unwrap()).unwrap();
        assert_eq!(back, times);
    }
    let law: LawConfig =
        serde_json::from_str(r#"{"kind": "shifted", "shift": {"tokens": 4096}, "base": {"kind": "uniform"}}"#).unwrap();
    assert_eq!(law.mixflow_label().unwrap().to_string(), "Beta(2, 1) shifted by 3.16, for 4096 tokens");
}
