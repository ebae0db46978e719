//! A full report from invented numbers.

use serde_json::Value;

use super::*;
use crate::files::{Tiles, write_atomic};

const HOSTILE: &str = "</title><script>alert('&\"')</script>\u{0}";

/// Plausible numbers without a random generator: a small integer hash in [0, 1).
fn noise(seed: u64) -> f64 {
    let mixed = (seed.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 40) as f64 / (1 << 24) as f64
}

fn curve(arm: Arm, seed: u64, steps: u64, from: f64, to: f64) -> Curve {
    let loss = |step: u64| {
        to + (from - to) * (-(step as f64) / 90.0).exp()
            + 0.06 * to * (noise(step * 7 + seed * 131 + arm.name().len() as u64) - 0.5) * 4.0
    };
    let points: Vec<Point> = (0..steps).map(|step| Point(step as f64, loss(step))).collect();
    let negative = points.iter().map(|point| Point(point.0, -point.1)).collect();
    Curve { arm, seed, points, terms: [("projection".to_string(), negative)].into() }
}

fn around(mean: f64) -> PerSeed {
    (0..3).map(|seed| mean * (1.0 + 0.05 * (noise(seed + (mean * 1e4) as u64) - 0.5))).collect()
}

fn metrics(scale: f64) -> Metrics {
    Metrics {
        frechet: around(6.1 * scale),
        kernel: around(0.021 * scale),
        precision: around(0.74 / scale.sqrt()),
        recall: around(0.62 / scale),
        variance_ratio: around(0.93 / scale),
        frechet_ratio: around(6.1 * scale / 2.1),
        sampling_seconds: around(3.0),
        ..Metrics::default()
    }
}

fn grid(arm: Option<Arm>, caption: &str, phase: f64) -> Grid {
    let image = |index: usize| {
        let (cell, pixel) = (index / 1024, index % 1024);
        let (x, y) = ((pixel % 32) as f64 - 15.5, (pixel / 32) as f64 - 15.5);
        let radius =
            (x * x + y * y * 0.7).sqrt() + 2.5 * (cell as f64 + (x.atan2(y) * (1.0 + (cell % 3) as f64)) + phase).sin();
        ((1.0 - (radius - 8.0).abs() / 2.5).clamp(-1.0, 1.0) + phase * (noise(index as u64) - 0.5)) as f32
    };
    let images: Vec<f32> = (0..36 * 1024).map(image).collect();
    Grid { arm, caption: caption.into(), picture: (&Tiles::default().image(&images, [36, 1, 32, 32])).into() }
}

fn report() -> Report {
    let named = Arm::Other("mixflow-ssc".into());
    let arms = [(Arm::Start, 1.6), (Arm::Standard, 1.25), (Arm::MixFlow, 1.08), (Arm::Control, 1.19), (named, 1.02)];
    let difference = |pair: [usize; 2], measure: &str, at: u64| {
        let [a, b] = pair.map(|place| (&arms[place].0, around(6.1 * arms[place].1)));
        Difference::new((a.0, &a.1), (b.0, &b.1), (measure, crate::evaluation::Best::Low), at)
    };
    let differences = [[2, 1], [4, 1]]
        .map(|pair| [difference(pair, "Fréchet", 64), difference(pair, "recall", 64), difference(pair, "Fréchet", 4)]);
    let evaluations = [4, 8, 16, 32, 64, 128];
    let bend = |t: f64, lag: f64| t - lag * t * t * t;
    let slow = |title: &str, lag: f64| SlowFlowPanel {
        title: title.into(),
        caption: "512 trajectories, nearest over 200 times.".into(),
        bands: arms[..3]
            .iter()
            .map(|&(ref arm, scale)| SlowFlowBand {
                arm: arm.clone(),
                times: (0..=40)
                    .map(|index| f64::from(index) / 40.0)
                    .map(|t| SlowFlowTime {
                        t,
                        low: bend(t, lag * scale * 1.6),
                        median: bend(t, lag * scale),
                        high: bend(t, lag * scale * 0.3),
                    })
                    .collect(),
            })
            .collect(),
    };
    let strip = |arm: Arm, steps: &[u64]| {
        let frame = |&steps: &u64| Frame { steps, picture: grid(None, "", 200.0 / steps as f64).picture };
        Strip { arm, frames: steps.iter().map(frame).collect() }
    };
    let phase = |name: &str, seconds| Phase { name: name.into(), seconds };
    Report {
        title: "MixFlow Training on handwritten digits".into(),
        summary: Summary {
            data: "handwritten digits".into(),
            shape: [1, 32, 32],
            latents: None,
            network: "a small SiT".into(),
            parameters: 1_234_567,
            pretrain_steps: 1500,
            posttrain_steps: 500,
            gamma: 0.8,
        },
        recipe: serde_json::json!({ "data": "digits", "timesteps": { "kind": "mixflow", "gamma": 0.8 } }),
        arms: BTreeMap::from([(
            Arm::Control,
            "The standard network with its velocity scaled by λ = 0.97, the best of nine.".into(),
        )]),
        curves: [curve(Arm::Start, 0, 1500, 1.9, 0.11)]
            .into_iter()
            .chain((0..3).flat_map(|seed| {
                [curve(Arm::Standard, seed, 500, 0.11, 0.1), curve(Arm::MixFlow, seed, 500, 0.19, 0.14)]
            }))
            .collect(),
        grids: vec![
            grid(None, "from the held-out set", 0.0),
            grid(Some(Arm::Start), "64 evaluations", 0.9),
            grid(Some(Arm::Standard), "64 evaluations", 0.6),
            grid(Some(Arm::MixFlow), "64 evaluations", 0.4),
        ],
        strips: vec![
            strip(Arm::Start, &[500, 1000, 1500]),
            strip(Arm::Standard, &[250, 500]),
            strip(Arm::MixFlow, &[250, 500]),
        ],
        drawn: vec!["zero".into(), "<b>one</b>".into()],
        frechet_by_evaluations: FrechetByEvaluations {
            sampler: "Euler".into(),
            samples: 1797,
            floor: around(2.1),
            points: arms
                .iter()
                .flat_map(|&(ref arm, scale)| {
                    evaluations.map(|evaluations| FrechetPoint {
                        steps: 0,
                        arm: arm.clone(),
                        evaluations,
                        frechet: around(6.1 * scale + 40.0 * scale / evaluations as f64),
                        recall: around(0.6 / scale),
                    })
                })
                .collect(),
        },
        slow_flow: vec![slow("Nearest time", 0.3), slow("Calibrated", 0.14)],
        table: Table {
            sampler: "Euler".into(),
            evaluations: 64,
            most_evaluations: 64,
            labels: Some(crate::data::Labels::Reference),
            features: "pixels".into(),
            samples: 1797,
            rows: arms.iter().map(|&(ref arm, scale)| Row { arm: arm.clone(), metrics: metrics(scale) }).collect(),
            floor: Metrics {
                frechet: [2.1].into(),
                kernel: [0.0004].into(),
                precision: [0.98].into(),
                recall: [0.97].into(),
                variance_ratio: [1.001].into(),
                ..Metrics::default()
            },
        },
        differences: differences.as_flattened().to_vec(),
        notes: vec!["Step 812 was skipped: its gradient was not finite.".into()],
        environment: Environment {
            version: "0.1.0".into(),
            backend: "flex, CPU".into(),
            machine: "Linux, x86-64".into(),
            threads: 2,
            phases: vec![
                phase("pre-training", 141.2),
                phase("post-training", 93.0),
                phase("sampling and measuring", 41.7),
            ],
        },
    }
}

/// The page without its pictures, whose base64 may spell anything.
fn html_without_pictures(report: &Report) -> String {
    let frames = report.strips.iter().flat_map(|strip| strip.frames.iter().map(|frame| &frame.picture));
    let pictures = report.grids.iter().map(|grid| &grid.picture).chain(frames);
    pictures.fold(report.html(), |html, picture| html.replace(&picture.png, ""))
}

/// Panics unless every tag is closed in order, every attribute is quoted, and every `&` starts an entity.
fn check_well_formed(html: &str) {
    let body = html.strip_prefix("<!DOCTYPE html>\n").unwrap();
    let mut open: Vec<&str> = Vec::new();
    let mut rest = body;
    while let Some(start) = rest.find('<') {
        check_entities(&rest[..start]);
        let end = start + rest[start..].find('>').unwrap();
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> closes another element");
            continue;
        }
        let inner = tag.strip_suffix('/');
        let (name, attributes) = inner.unwrap_or(tag).split_once(' ').unwrap_or((inner.unwrap_or(tag), ""));
        assert!(name.chars().all(char::is_alphanumeric), "odd element <{tag}>");
        let quotes = attributes.split('"').collect::<Vec<_>>();
        assert!(quotes.len() % 2 == 1, "unbalanced quotes in <{tag}>");
        for name in quotes.iter().step_by(2).filter(|text| !text.is_empty()) {
            assert!(
                name.ends_with('=') && name.trim().chars().all(|c| c.is_ascii_alphanumeric() || "-=".contains(c)),
                "odd attribute {name:?}"
            );
        }
        quotes.iter().skip(1).step_by(2).for_each(|value| check_entities(value));
        if inner.is_none() {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

fn check_entities(text: &str) {
    for entity in text.split('&').skip(1) {
        let name = entity.split_once(';').map(|(name, _)| name);
        assert!(matches!(name, Some("amp" | "lt" | "gt" | "quot" | "#39")), "bare & before {entity:.20}");
    }
}

#[test]
fn the_page_is_well_formed_and_self_contained() {
    check_well_formed(&report().html());
    let html = html_without_pictures(&report());
    for section in [
        "How it works",
        "Samples",
        "Results",
        "What differs",
        "Quality against cost",
        "Slow Flow",
        "Validation images",
        "Training",
        "Notes",
        "Details",
    ] {
        assert!(html.contains(&format!("<h2>{section}</h2>")), "{section}");
    }
    assert_eq!(html.matches("<svg").count(), html.matches("<desc").count());
    assert_eq!(html.matches("<img").count(), html.matches(" alt=\"").count());
    assert_eq!(html.matches("http").count(), html.matches("<a href=\"https://arxiv.org/abs/").count());
    for forbidden in ["NaN", "<script", "<link", "@import", "url(", "FID", "KID"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    // Ids are unique, so that every picture has its own title.
    let mut ids: Vec<&str> = html.split(" id=\"").skip(1).filter_map(|text| text.split('"').next()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

/// The JSON pointers to all texts in a value.
fn texts(value: &Value, pointer: &str, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(pointer.into()),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(index, value)| texts(value, &format!("{pointer}/{index}"), found));
        }
        Value::Object(values) => {
            let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
            values.iter().for_each(|(key, value)| texts(value, &format!("{pointer}/{}", escaped(key)), found));
        }
        _ => {}
    }
}

#[test]
fn hostile_text_stays_text() {
    let mut report = report();
    report.curves.iter_mut().for_each(|curve| curve.points.truncate(2));
    report.curves[0].terms = [(HOSTILE.to_owned(), report.curves[0].points.clone())].into();
    report.recipe = serde_json::json!({ HOSTILE: "recipe" });
    let own = OwnMetric { name: "own".into(), best: crate::evaluation::Best::High, group: None, values: [0.5].into() };
    report.table.floor.more.push(own);
    report.notes.push("note".into());
    report.arms = report.order().into_iter().map(|arm| (arm, "arm".to_owned())).collect();
    report.table.features = "features".into();
    // In every text that may be any.
    let mut value = serde_json::to_value(&report).unwrap();
    let mut pointers = vec![];
    texts(&value, "", &mut pointers);
    // Arms are named in one place and meant in others: see below.
    pointers.retain(|pointer| !pointer.ends_with("/arm") && !pointer.ends_with("/than"));
    let mut replaced = 0;
    for pointer in &pointers {
        let before = std::mem::replace(value.pointer_mut(pointer).unwrap(), HOSTILE.into());
        match serde_json::from_value(value.clone()) {
            Ok(hostile) => (report, replaced) = (hostile, replaced + 1),
            Err(_) => *value.pointer_mut(pointer).unwrap() = before,
        }
    }
    assert!(replaced >= 30, "{replaced} of {pointers:?}");
    let html = report.html();
    check_well_formed(&html);
    assert!(!html.contains("<script") && !html.contains('\0'));
    assert!(html.matches("&lt;script&gt;").count() >= replaced);

    let named = serde_json::to_string(&report).unwrap().replace("mixflow-ssc", "</style><script>1</script>");
    let named: Report = serde_json::from_str(&named).unwrap();
    assert!(named.order().contains(&Arm::Other("</style><script>1</script>".into())));
    check_well_formed(&named.html());
    assert!(!named.html().contains("<script"));
}

#[test]
fn numbers_that_are_not_finite_never_show() {
    let mut report = report();
    report.summary.gamma = 0.5;
    for curve in &mut report.curves {
        curve.points.iter_mut().for_each(|point| point.1 = f64::NAN);
    }
    for point in &mut report.frechet_by_evaluations.points {
        point.frechet.0[1] = f64::INFINITY;
    }
    for time in report.slow_flow.iter_mut().flat_map(|panel| &mut panel.bands).flat_map(|band| &mut band.times) {
        time.low = f64::NAN;
    }
    report.table.rows[2].metrics.frechet = [f64::NAN].into();
    let html = html_without_pictures(&report);
    check_well_formed(&html);
    assert!(!html.contains("NaN") && !html.contains(">inf") && !html.contains(" inf"));
}

#[test]
fn an_empty_report_renders() {
    check_well_formed(&Report::default().html());
}

#[test]
fn a_training_alone_has_its_own_name() {
    let whole = report();
    let own = Arm::Other("tiny".into());
    let strip = Strip { arm: own.clone(), ..whole.strips[0].clone() };
    let alone = Report {
        summary: Summary { posttrain_steps: 0, ..whole.summary },
        curves: vec![Curve { arm: own, ..whole.curves[0].clone() }],
        strips: vec![strip],
        drawn: (0..40).map(|label| format!("<{label}>")).collect(),
        environment: whole.environment,
        ..Report::default()
    };
    check_well_formed(&alone.html());
    let html = html_without_pictures(&alone);
    assert!(html.contains("></span>tiny</th>") && html.contains("alt=\"tiny after 500 steps\""), "{html}");
    assert!(html.contains(".arm-tiny{--c:") && html.contains("Training loss") && !html.contains(">start<"), "{html}");
    let drawn = "same noise. In turn, row after row: <q>&lt;0&gt;</q>, <q>&lt;1&gt;</q>, ";
    assert!(html.contains(drawn) && html.contains("<q>&lt;31&gt;</q> and 8 others."), "{html}");
}

#[test]
fn json_round_trips_to_the_same_page() {
    let report = report();
    let read: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(read.html(), report.html());
}

/// Leaves the page where a person can look at it: `MIXFLOW_REPORT=report.html cargo test -p mixflow report::`.
#[test]
fn the_page_can_be_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = std::env::var_os("MIXFLOW_REPORT").map_or_else(|| directory.path().join("report.html"), Into::into);
    write_atomic(&path, report().html().as_bytes()).unwrap();
    assert!(path.metadata().unwrap().len() > 10_000);
}

#[test]
fn the_page_of_one_network_has_a_colour_for_it() {
    let arm = Arm::Other("my-recipe".into());
    let times = [0.1, 0.9].map(|t| SlowFlowTime { t, low: t - 0.1, median: t, high: t + 0.1 }).into();
    let bands = vec![SlowFlowBand { arm: arm.clone(), times }];
    let panel = SlowFlowPanel { title: "calibrated".into(), caption: "as measured".into(), bands };
    let page = slow_flow_page("a network", &[panel]);
    let class = arm.class();
    assert!(page.contains(&format!("{class}\"")), "{page}");
    assert_eq!(page.matches(&format!(".{class}{{--c:")).count(), 2, "light and dark: {page}");
}
