//! The page: sections in reading order.

use std::collections::BTreeSet;

use super::html::{escape, slug};
use super::{
    Arm, Curve, Difference, Environment, Report, SlowFlowPanel, Strip, Verdict, diagram, figures, plot, strip, summary,
};
use crate::numbers::{MOST_DECIMALS, rounded, thousands};

pub(super) const STYLE: &str = include_str!("style.css");
const PAPER: &str = "https://arxiv.org/abs/2512.19311";

pub(super) fn render(report: &Report) -> String {
    let title = if report.title.is_empty() { "MixFlow Training, a report" } else { &report.title };
    let sections = [
        grids(report),
        table(report),
        differences(report),
        frechet(report),
        method(report),
        slow_flow(&report.slow_flow),
        strips(report),
        losses(report),
        notes(&report.notes),
        details(report),
    ];
    let main = sections.into_iter().flatten().collect::<Vec<_>>().join("\n");
    let lead = [summary::outcome(report).unwrap_or_default(), summary::lead(report)];
    page(title, lead, &main, &report.environment.version, &Arm::colours(&report.order()))
}

/// The Slow Flow figure of one network alone, as a self-contained page; `measured` says what of, in a sentence.
pub fn slow_flow_page(measured: &str, panels: &[SlowFlowPanel]) -> String {
    let lead = [String::new(), measured.into()];
    let colours = Arm::colours(panels.iter().flat_map(|panel| panel.bands.iter().map(|band| &band.arm)));
    page("Slow Flow of one network", lead, &slow_flow(panels).unwrap_or_default(), env!("CARGO_PKG_VERSION"), &colours)
}

/// A page whose first paragraph is large.
fn page(title: &str, lead: [String; 2], main: &str, version: &str, colours: &str) -> String {
    let lead = ["headline", "lead"].into_iter().zip(&lead).filter(|(_, text)| !text.is_empty());
    let lead = lead.map(|(class, text)| format!("<p class=\"{class}\">{}</p>", unbroken(&escape(text))));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <meta name=\"color-scheme\" content=\"light dark\"/><title>{title}</title><style>{STYLE}{colours}</style></head>\n\
         <body><header><h1>{title}</h1>{lead}</header>\n<main>{main}</main>\n\
         <footer>mixflow {version}. MixFlow Training: <a href=\"{PAPER}\">arXiv 2512.19311</a>.</footer></body></html>\n",
        title = escape(title),
        lead = lead.collect::<String>(),
        version = escape(version),
    )
}

/// Keeps numbers and their signs on one line.
fn unbroken(text: &str) -> String {
    text.replace(" ± ", "\u{a0}±\u{a0}")
        .replace(" × ", "\u{a0}×\u{a0}")
        .replace(" %", "\u{a0}%")
        .replace(" = ", "\u{a0}=\u{a0}")
}

fn section(heading: &str, text: &str, content: &str) -> String {
    format!("<section><h2>{heading}</h2><p>{text}</p>{content}</section>")
}

fn figure(content: &str, caption: &str) -> String {
    format!("<figure>{content}<figcaption>{caption}</figcaption></figure>")
}

fn chart(chart: &plot::Chart, caption: &str) -> String {
    figure(&chart.svg(), caption)
}

fn method(report: &Report) -> Option<String> {
    if report.is_alone() {
        return None;
    }
    let arms = report.order().into_iter().map(|arm| {
        let text = report.arms.get(&arm).map_or(arm.description(), String::as_str);
        let (class, name) = (arm.class(), escape(arm.name()));
        format!("<dt><span class=\"swatch {class}\"></span>{name}</dt><dd>{}</dd>", escape(text))
    });
    let pictures = [
        figure(&diagram::time_lines(), "What the network sees. Sampling does not change."),
        figure(
            &diagram::triangle(report.summary.gamma),
            "Where the times come from: standard training stays on the diagonal.",
        ),
    ];
    Some(section(
        "How it works",
        "A flow network draws by walking from noise (time 0) to data (time 1). It is trained on exact mixtures of an image and noise, \
         but when it draws it walks on states that it made itself, and these lag behind: they look noisier than the clock says. \
         MixFlow Training shows the network such inputs on purpose. It draws a label time t, slows it to an earlier time m, \
         mixes image and noise at m, and tells the network t. Nothing else changes.",
        &format!("<div class=\"pair\">{}</div><dl class=\"arms\">{}</dl>", pictures.concat(), arms.collect::<String>()),
    ))
}

fn grids(report: &Report) -> Option<String> {
    let grids = report.grids.iter().map(|grid| {
        let (class, name) = match &grid.arm {
            Some(arm) => (arm.class(), escape(arm.name())),
            None => ("real".into(), "real examples".into()),
        };
        format!(
            "<figure><img src=\"data:image/png;base64,{}\" width=\"{}\" height=\"{}\" alt=\"{}\"/>\
             <figcaption><b><span class=\"swatch {class}\"></span>{name}</b> {caption}</figcaption></figure>",
            escape(&grid.picture.png),
            grid.picture.width,
            grid.picture.height,
            format_args!("{name}: {}", escape(&grid.caption)),
            caption = escape(&grid.caption),
        )
    });
    let content: String = grids.collect();
    (!content.is_empty()).then(|| {
        section(
            "Samples",
            &format!(
                "{} Every arm starts from the same noise, so images in the same place can be compared one by one.",
                unbroken(&escape(&summary::done(report).unwrap_or_default()))
            ),
            &format!("<div class=\"grids\">{content}</div>"),
        )
    })
}

fn table(report: &Report) -> Option<String> {
    (!report.table.rows.is_empty()).then(|| {
        section(
            "Results",
            &format!(
                "The Fréchet and the kernel distance, both of {}, measure how far the generated images are from real ones; precision asks \
                 whether they look real, recall whether they cover all that is real. Accuracy alone can hide lost diversity, so read them together. \
                 A difference smaller than the spread over seeds says nothing. {}",
                escape(&report.table.features),
                unbroken(&escape(&summary::floor(report).unwrap_or_default()))
            ),
            &report.table.html(),
        )
    })
}

/// Measures of which the page shows how arms differ, beside one's own, and of a group of these the last; all are in the results.
const SHOWN: [&str; 6] = ["Fréchet", "kernel", "sliced", "recall", "coverage", "variance"];

/// Every arm against standard post-training, and MixFlow against the others; last the Fréchet distance elsewhere.
fn differences(report: &Report) -> Option<String> {
    let shown = |difference: &&Difference| {
        let Difference { arm, than, .. } = difference;
        [arm, than].contains(&&Arm::MixFlow) || *than == Arm::Standard
    };
    let all: Vec<&Difference> = report.differences.iter().filter(shown).collect();
    let evaluations = |main: bool| -> BTreeSet<u64> {
        let here = |difference: &&&Difference| (difference.measure != SHOWN[0]) == main;
        all.iter().filter(here).map(|difference| difference.evaluations).collect()
    };
    let main = evaluations(true);
    let others: Vec<u64> = evaluations(false).difference(&main).copied().collect();
    let mut pairs: Vec<(&Arm, &Arm)> = vec![];
    for difference in all.iter().filter(|difference| main.contains(&difference.evaluations)) {
        if !pairs.contains(&(&difference.arm, &difference.than)) {
            pairs.push((&difference.arm, &difference.than));
        }
    }
    let of = |pair: (&Arm, &Arm), measure: &str, at: &dyn Fn(u64) -> bool| {
        let alike = |other: &&&Difference| {
            (&other.arm, &other.than) == pair && other.measure == measure && at(other.evaluations)
        };
        all.iter().find(alike).map_or_else(|| "<td>–</td>".into(), |difference| cell(difference))
    };
    let own = &report.table.floor.more;
    let last = |place: &usize| {
        let next = own.get(place + 1);
        own[*place].group.is_none() || next.is_none_or(|next| next.group != own[*place].group)
    };
    let own: Vec<&str> = (0..own.len()).filter(last).map(|place| own[place].name.as_str()).collect();
    let shown: Vec<&str> = SHOWN.into_iter().chain(own).collect();
    let named = shown.iter().map(|name| escape(name));
    let few = others.iter().map(|evaluations| format!("{} at {}", SHOWN[0], thousands(*evaluations)));
    let head: String = named.chain(few).map(|name| format!("<th scope=\"col\">{name}</th>")).collect();
    let rows: String = pairs
        .into_iter()
        .map(|pair| {
            let [arm, than] = [pair.0, pair.1].map(|arm| escape(arm.name()));
            let here = shown.iter().map(|measure| of(pair, measure, &|at| main.contains(&at)));
            let few = others.iter().map(|evaluations| of(pair, SHOWN[0], &|at| at == *evaluations));
            let cells: String = here.chain(few).collect();
            let class = pair.0.class();
            format!("<tr><th scope=\"row\"><span class=\"swatch {class}\"></span>{arm} − {than}</th>{cells}</tr>")
        })
        .collect();
    (!rows.is_empty()).then(|| {
        section(
            "What differs",
            "The mean difference, seed by seed on the same examples and noise, and its 95 % confidence interval over seeds of training \
             (Student’s t). Bold where that leaves out zero: better ▲, or worse ▼, of equal arms in one case of twenty. All else may \
             be chance, and images from other noise would move each number a little more.",
            &format!(
                "<div class=\"scroll\"><table><caption>Seeds: {}. Of the variance ratio, how much farther from 1. All pairs and \
                 measures are in results.json.</caption><thead><tr><th scope=\"col\">arms</th>{head}</tr></thead>\
                 <tbody>{rows}</tbody></table></div>",
                report.table.seeds()
            ),
        )
    })
}

/// A difference with its interval, marked where it is one.
fn cell(difference: &Difference) -> String {
    let Some(mean) = difference.values.mean() else { return "<td>–</td>".into() };
    // As many decimals as the width of the interval has meaning for.
    let width = difference.interval.map_or(0.0, |[low, high]| (high - low) / 2.0);
    let signed = |value: f64| {
        let text = rounded(value.abs(), (width > 0.0).then_some(width), MOST_DECIMALS).0;
        format!("{}{text}", if value < 0.0 { "−" } else { "+" })
    };
    let interval = difference.interval.map_or(String::new(), |[low, high]| {
        format!("<span class=\"interval\">{} to {}</span>", signed(low), signed(high))
    });
    match difference.verdict() {
        Verdict::Better => format!("<td><b>{} ▲</b>{interval}</td>", signed(mean)),
        Verdict::Worse => format!("<td><b>{} ▼</b>{interval}</td>", signed(mean)),
        Verdict::Unclear => format!("<td>{}{interval}</td>", signed(mean)),
    }
}

fn frechet(report: &Report) -> Option<String> {
    let (data, name) = (&report.frechet_by_evaluations, report.table.frechet_name());
    let mut evaluations: Vec<u64> = data.points.iter().map(|point| point.evaluations).collect();
    evaluations.sort_unstable();
    evaluations.dedup();
    let order = report.order().into_iter();
    let arms: Vec<Arm> = order.filter(|arm| data.points.iter().any(|point| point.arm == *arm)).collect();
    data.points.iter().find_map(|point| point.frechet.mean())?;

    let head: String = arms
        .iter()
        .map(|arm| {
            format!("<th scope=\"col\"><span class=\"swatch {}\"></span>{}</th>", arm.class(), escape(arm.name()))
        })
        .collect();
    let rows = evaluations.iter().map(|&evaluations| {
        let cells = arms.iter().map(|arm| {
            let point = data.points.iter().find(|point| point.arm == *arm && point.evaluations == evaluations);
            let mean = point.map(|point| point.frechet.rounded(MOST_DECIMALS).0);
            format!("<td>{}</td>", mean.as_deref().unwrap_or("–"))
        });
        format!("<tr><th scope=\"row\">{}</th>{}</tr>", thousands(evaluations), cells.collect::<String>())
    });
    let table = format!(
        "<div class=\"scroll\"><table><caption>Mean {} by evaluations.</caption><thead><tr><th scope=\"col\">evaluations</th>{head}</tr></thead><tbody>{}</tbody></table></div>",
        escape(&name),
        rows.collect::<String>()
    );
    let caption = format!(
        "{}; {} images per point. Band: smallest to largest seed.",
        escape(&data.sampler),
        thousands(data.samples as u64)
    );
    Some(section(
        "Quality against cost",
        "More evaluations of the network follow the flow more exactly. The dashed line is the floor: real images against other real images.",
        &format!("<div class=\"pair\">{}{table}</div>", chart(&figures::frechet(data, &arms, &name), &caption)),
    ))
}

fn slow_flow(panels: &[SlowFlowPanel]) -> Option<String> {
    const IDS: [&str; 4] = ["slow-1", "slow-2", "slow-3", "slow-4"];
    let panels = panels.iter().zip(IDS).map(|(panel, id)| {
        chart(&figures::slow_flow(id, panel), &format!("<b>{}.</b> {}", escape(&panel.title), escape(&panel.caption)))
    });
    let content: String = panels.collect();
    (!content.is_empty()).then(|| {
        section(
            "Slow Flow",
            "For every state that a network generated on its way, this is the time m of the ground-truth mixture most like it. \
             On the dashed diagonal the state is as far as the clock says; below it, it lags behind. Line: median; band: 5 to 95 %.",
            &format!("<div class=\"pair\">{content}</div>"),
        )
    })
}

fn strips(report: &Report) -> Option<String> {
    let first = |strip: &&Strip| report.is_alone() || strip.arm == Arm::Start;
    let (before, after): (Vec<&Strip>, Vec<&Strip>) = report.strips.iter().partition(first);
    let tables: String =
        [before, after].iter().filter(|strips| !strips.is_empty()).map(|strips| strip::table(strips)).collect();
    let shared = if report.is_alone() { "" } else { ", those of an arm's first seed," };
    let drawn = match &report.drawn[..] {
        [] => String::new(),
        all => format!(" In turn, row after row: {}.", listed(all)),
    };
    (!tables.is_empty()).then(|| {
        section(
            "Validation images",
            &format!(
                "Images by the moving average of the weights after so many steps{shared} each time from the same noise.{drawn}"
            ),
            &tables,
        )
    })
}

/// Names of labels, or prompts; of many the first.
fn listed(names: &[String]) -> String {
    const MOST: usize = 32;
    let shown = names.iter().take(MOST).map(|name| format!("<q>{}</q>", escape(name)));
    let more = if names.len() > MOST { format!(" and {} others", names.len() - MOST) } else { String::new() };
    shown.collect::<Vec<_>>().join(", ") + &more
}

fn losses(report: &Report) -> Option<String> {
    let first = |curve: &&Curve| report.is_alone() || curve.arm == Arm::Start;
    let (before, after): (Vec<&Curve>, Vec<&Curve>) = report.curves.iter().partition(first);
    let first = if report.is_alone() { "Training" } else { "Pre-training" };
    let mut charts = String::new();
    if !before.is_empty() {
        charts += &chart(
            &figures::loss("loss-pre".into(), &format!("{first} loss"), &before),
            &format!("<b>{first}.</b> Pale: every step. Strong: smoothed."),
        );
    }
    if !after.is_empty() {
        charts += &chart(
            &figures::loss("loss-post".into(), "Post-training losses", &after),
            "<b>Post-training.</b> Same start, same number of steps, one line per seed.",
        );
    }
    for (part, title, curves) in [("pre", first, &before), ("post", "Post-training", &after)] {
        for name in curves.iter().flat_map(|curve| curve.terms.keys()).collect::<BTreeSet<_>>() {
            let of_term = |curve: &&Curve| Some(Curve { points: curve.terms.get(name)?.clone(), ..(*curve).clone() });
            let of_term: Vec<Curve> = curves.iter().filter_map(of_term).collect();
            let id = format!("loss-{part}-{}", slug(name));
            charts += &chart(
                &figures::loss(id, &format!("{title}: {name}"), &of_term.iter().collect::<Vec<_>>()),
                &format!("<b>{title}, {}.</b> A part of the loss.", escape(name)),
            );
        }
    }
    (!charts.is_empty()).then(|| {
        section(
            "Training",
            match report.is_alone() {
                true => "Judge by the samples, not by the loss.",
                false => {
                    "The two post-training losses are not comparable with each other: MixFlow draws other times, and its network has to \
                     guess how noisy the input really is. Judge by the samples, not by the loss."
                }
            },
            &format!("<div class=\"pair\">{charts}</div>"),
        )
    })
}

fn notes(notes: &[String]) -> Option<String> {
    let items: String = notes.iter().map(|note| format!("<li>{}</li>", escape(note))).collect();
    (!items.is_empty()).then(|| format!("<section class=\"notes\"><h2>Notes</h2><ul>{items}</ul></section>"))
}

fn details(report: &Report) -> Option<String> {
    let recipe = serde_json::to_string_pretty(&report.recipe).unwrap_or_default();
    Some(format!(
        "<section><h2>Details</h2>{}<details><summary>Recipe</summary><pre><code>{}</code></pre></details></section>",
        environment(&report.environment),
        escape(&recipe)
    ))
}

fn environment(environment: &Environment) -> String {
    let threads = if environment.threads > 0 { environment.threads.to_string() } else { String::new() };
    let facts = [
        ("version", &environment.version),
        ("backend", &environment.backend),
        ("machine", &environment.machine),
        ("threads", &threads),
    ];
    let facts = facts.iter().filter(|(_, value)| !value.is_empty());
    let facts: String = facts.map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>", escape(value))).collect();
    let facts = if facts.is_empty() { facts } else { format!("<dl class=\"facts\">{facts}</dl>") };
    if environment.phases.is_empty() {
        return facts;
    }
    let row = |name: &str, seconds: f64| {
        format!("<th scope=\"row\">{}</th><td>{}</td></tr>", escape(name), duration(seconds))
    };
    let rows: String =
        environment.phases.iter().map(|phase| format!("<tr>{}", row(&phase.name, phase.seconds))).collect();
    let total =
        row("total", environment.phases.iter().map(|phase| phase.seconds).filter(|seconds| seconds.is_finite()).sum());
    format!(
        "<div class=\"pair\">{facts}<table><caption>Wall times.</caption><thead><tr><th scope=\"col\">phase</th><th scope=\"col\">time</th></tr></thead>\
         <tbody>{rows}<tr class=\"floor\">{total}</tbody></table></div>"
    )
}

/// `7.3 s`, `4 min 05 s`, `2 h 03 min`.
fn duration(seconds: f64) -> String {
    if !(0.0..1e9).contains(&seconds) {
        return "–".to_owned();
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}
