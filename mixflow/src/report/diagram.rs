//! The method in two pictures.

/// Two time lines: where the input is noised and what the network is told, without and with `MixFlow`.
pub(super) fn time_lines() -> String {
    let line = |y: f64, name: &str| {
        format!(
            "<text class=\"heading\" x=\"20\" y=\"{}\">{name}</text><path class=\"base\" d=\"M20 {y}H440\"/>\
             <text class=\"tick\" x=\"20\" y=\"{end}\">0 · noise</text><text class=\"tick\" x=\"440\" y=\"{end}\" text-anchor=\"end\">1 · data</text>",
            y - 58.0,
            end = y + 42.0
        )
    };
    let label = |x: f64, y: f64, text: &str| {
        format!("<text class=\"axis-name\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{text}</text>")
    };
    format!(
        "<svg class=\"chart\" viewBox=\"0 0 460 300\" role=\"img\" aria-labelledby=\"lines-title lines-desc\">\
         <title id=\"lines-title\">Input time and label time</title>\
         <desc id=\"lines-desc\">Standard flow matching noises the input at the time the network is told. MixFlow noises it at an earlier, noisier time m between one minus gamma times t, and t.</desc>\
         {standard}<circle class=\"dot standard\" cx=\"315\" cy=\"90\" r=\"6\"/>{a}{b}\
         {mixflow}<path class=\"span mixflow\" d=\"M90 240H315\"/><circle class=\"dot mixflow\" cx=\"190\" cy=\"240\" r=\"6\"/><path class=\"tip mixflow\" d=\"M315 230v20\"/>{c}{d}{e}</svg>",
        standard = line(90.0, "Standard"),
        a = label(315.0, 72.0, "input and label: t"),
        b = label(315.0, 114.0, "the two agree"),
        mixflow = line(240.0, "MixFlow"),
        c = label(190.0, 222.0, "input: m"),
        d = label(315.0, 222.0, "label: t"),
        e = label(202.0, 264.0, "m is uniform on [(1 − γ) t, t]"),
    )
}

/// The triangle of (t, m): the slowed times below the diagonal, for `gamma` ∈ [0, 1].
pub(super) fn triangle(gamma: f64) -> String {
    let gamma = if gamma.is_finite() { gamma.clamp(0.0, 1.0) } else { 1.0 };
    let (left, bottom, size) = (46.0, 258.0, 228.0);
    let x = |t: f64| left + 1.4 * size * t;
    let y = |m: f64| bottom - size * m;
    let (t, low) = (0.7, 0.7 * (1.0 - gamma));
    format!(
        "<svg class=\"chart\" viewBox=\"0 0 460 300\" role=\"img\" aria-labelledby=\"triangle-title triangle-desc\">\
         <title id=\"triangle-title\">Where MixFlow draws its times</title>\
         <desc id=\"triangle-desc\">Label time t to the right, input time m upwards. Standard training stays on the diagonal; MixFlow fills the wedge from the diagonal down to one minus gamma times t.</desc>\
         <text class=\"axis-name\" x=\"0\" y=\"12\">input time m</text>\
         <path class=\"band mixflow\" d=\"M{x0:.1} {y0:.1}L{x1:.1} {y1:.1}L{x1:.1} {yl:.1}Z\"/>\
         <path class=\"line standard\" d=\"M{x0:.1} {y0:.1}L{x1:.1} {y1:.1}\"/>\
         <path class=\"dashed mixflow\" d=\"M{x0:.1} {y0:.1}L{x1:.1} {yl:.1}\"/>\
         <path class=\"span mixflow\" d=\"M{xt:.1} {yt:.1}V{ytl:.1}\"/><circle class=\"dot mixflow\" cx=\"{xt:.1}\" cy=\"{ym:.1}\" r=\"5\"/>\
         <path class=\"base\" d=\"M{x0:.1} {y0:.1}H{x1:.1}\"/><path class=\"base\" d=\"M{x0:.1} {y0:.1}V{y1:.1}\"/>\
         <text class=\"tick\" x=\"{x0:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">0</text><text class=\"tick\" x=\"{x1:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">1</text>\
         <text class=\"tick\" x=\"{beside:.1}\" y=\"{y1t:.1}\" text-anchor=\"end\">1</text>\
         <text class=\"tick\" x=\"{xt:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">t</text>\
         <text class=\"axis-name\" x=\"{middle:.1}\" y=\"294\" text-anchor=\"middle\">label time t</text>\
         <text class=\"name standard\" x=\"{named:.1}\" y=\"{y1t:.1}\">m = t</text>\
         <text class=\"name mixflow\" x=\"{named:.1}\" y=\"{ylt:.1}\">(1 − γ) t</text></svg>",
        x0 = x(0.0),
        y0 = y(0.0),
        x1 = x(1.0),
        y1 = y(1.0),
        yl = y(1.0 - gamma),
        xt = x(t),
        yt = y(t),
        ytl = y(low),
        ym = y(f64::midpoint(t, low) + 0.06 * gamma),
        below = bottom + 17.0,
        beside = left - 7.0,
        y1t = y(1.0) + 4.0,
        middle = x(0.35),
        named = x(1.0) + 7.0,
        // Kept apart from the diagonal's name when gamma is small.
        ylt = (y(1.0 - gamma) + 4.0).max(y(1.0) + 20.0),
    )
}
