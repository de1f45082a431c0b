// The page of `make watch`: what build/watch writes, drawn by Chart.js, and read again every two seconds.
// runs.js calls watch.list with the list of runs, run-ID.js calls watch.run with a run's curves (tools/watch_run.h). They are
// scripts, each inserted anew, since a page that was opened as a file can read nothing else.
'use strict';

const watch = (() => {
    const EVERY = 2000, FIRST = 5, MOST_TOLD = 12;  // ms between two looks; runs that are shown at first; lines of a tooltip
    const runs = new Map();                         // id: what watch.run said last
    const shown = new Map();                        // id of a run that is shown: its colour, a number of the palette
    const filled = new Map();                       // section: what it says
    const zoom = {tokens: null, seconds: null};     // [from, to] of all panels over the same
    let list = {runs: []}, listed = '', known = null, due = false;

    const dark = () => matchMedia('(prefers-color-scheme: dark)').matches;
    const $ = id => document.getElementById(id);
    const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

    // An element with this text, or with these elements in it. Names and samples only ever become text.
    function element(tag, content = '', attributes = {}) {
        const e = document.createElement(tag);
        e.append(...[content].flat());
        return Object.assign(e, attributes);
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Numbers for people

    const digits = (x, n = 4) => x === undefined || x === null ? '' : Number(x.toPrecision(n)).toString();

    function short(x) {                             // 2460000 -> 2.46M
        const [unit, name] = [[1e9, 'B'], [1e6, 'M'], [1e3, 'k']].find(([size]) => Math.abs(x) >= size) ?? [1, ''];
        return digits(x / unit, 3) + name;
    }

    function time(x) {                              // 3725 -> 1:02:05
        if (x < 60) return `${digits(x, 3)} s`;
        const s = Math.round(x), two = n => String(n).padStart(2, '0');
        const minutes = Math.floor(s / 60), hours = Math.floor(s / 3600);
        return hours ? `${hours}:${two(minutes % 60)}:${two(s % 60)}` : `${minutes}:${two(s % 60)}`;
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Curves. A panel's `of` gives the datasets of a run: points {x, y}, y null where there is no number.

    const columns = (table, x, y) => table[x].map((at, i) => ({x: at, y: table[y][i]}));

    // quiet: the tooltip leaves it out. loose: the limits do, too. beside: points that the tooltip says with those of the line.
    const line = (run, label, data, more) => ({label: run.name + label, data, borderColor: run.color, backgroundColor: run.color,
        borderWidth: 1.6, borderDash: run.dash, pointRadius: 0, ...more});

    const curve = (name, table = 'steps') => (run, x) => [line(run, '', columns(run[table], x, name), {borderWidth: 1.2})];

    function noisy(name) {                          // faint, and smoothed by build/watch
        return (run, x) => {
            const raw = columns(run.steps, x, name);
            return [line(run, '', raw, {borderColor: run.color + '50', borderWidth: 1, borderDash: [], quiet: true}),
                line(run, '', columns(run.steps, x, 'smooth_' + name), {beside: raw})];
        };
    }

    function losses(run, x) {
        const unit = $('unit').value, val = alone() ? style('--black') : run.color, few = run.evals.step.length < 60;
        const [raw, smooth] = noisy(unit)(run, x);
        return [
            raw, {...smooth, label: `${run.name}: training`, borderDash: alone() ? [] : [6, 3]},
            line(run, ': validation', columns(run.evals, x, unit),
                {borderColor: val, backgroundColor: val, borderWidth: 2, pointRadius: few ? 2.5 : 0}),
            line(run, ': validation, whole split', columns(run.others, x, unit),
                {borderColor: val, showLine: false, pointStyle: 'crossRot', pointRadius: 6, pointBorderWidth: 2}),
        ];
    }

    // The largest logit of every head where one run is shown, from light to dark by layer; else of each run the largest of all.
    function logits(run, x) {
        const {layers, heads, of} = run.heads, last = run.steps[x].at(-1) ?? 0;
        const darkest = list.ramp.length - (dark() ? 3 : 2);
        const of_head = (y, i) => {
            const layer = Math.floor(i / heads), color = list.ramp[Math.round(layer * darkest / Math.max(1, layers - 1))];
            return line(run, `, layer ${layer + 1} head ${i % heads + 1}`, run.heads[x].map((at, k) => ({x: at, y: y[k]})),
                {borderColor: color, backgroundColor: color, borderWidth: 1.2});
        };
        const lines = alone() && of.length ? of.map(of_head) : curve('max_logit')(run, x);
        const tau = {label: 'tau', data: [{x: 0, y: run.tau}, {x: last, y: run.tau}], loose: true,
            borderColor: style('--soft'), borderWidth: 1, borderDash: [3, 3], pointRadius: 0};
        return run.tau ? [...lines, tau] : lines;
    }

    const panels = [
        {title: 'Loss', x: 'tokens', of: losses, loss: true},
        {title: 'Loss', x: 'seconds', of: losses, loss: true},
        {title: 'Learning rate', x: 'tokens', of: curve('lr')},
        {title: 'Norm of the gradient', x: 'tokens', of: noisy('grad_norm')},
        {title: 'Largest attention logit', x: 'tokens', of: logits,
            more: () => alone() ? 'of each head, light to dark by layer' : 'of all heads'},
        {title: 'Share of the experts without tokens', x: 'tokens', of: curve('dead', 'experts')},
        {title: 'Largest load of an expert', x: 'tokens', of: curve('max_load', 'experts'), more: () => 'in mean loads'},
        {title: 'Tokens a second', x: 'tokens', of: noisy('tok_per_s')},
    ];

    const drawn = () => list.runs.filter(r => shown.has(r.id) && runs.has(r.id));
    const alone = () => drawn().length === 1;

    // A run's colour while it is shown, as in the pictures: its optimizer's where no other has it, else one of the others.
    function choose_color(r) {
        const taken = [...shown.values()], others = list.palette.map((_, i) => i).slice(list.others);
        const count = i => taken.filter(t => t === i).length;
        return r.color >= 0 && !count(r.color) ? r.color : others.reduce((a, b) => count(b) < count(a) ? b : a);
    }

    const color_of = i => dark() && list.palette[i] === '#000000' ? '#ffffff' : list.palette[i];

    // -----------------------------------------------------------------------------------------------------------------
    // Charts

    // The y of all that lies within x, but for what is far outside: between Tukey's outer fences, as in the pictures (plot.h).
    function limits(datasets, within, log) {
        let low = Infinity, high = -Infinity;
        for (const d of datasets.filter(each => !each.loose)) {
            const counts = p => p.y !== null && (!log || p.y > 0) && (!within || (p.x >= within[0] && p.x <= within[1]));
            const sorted = Float64Array.from(d.data.filter(counts), p => p.y).sort();
            const [q1, q3] = [0.25, 0.75].map(part => sorted[Math.floor((sorted.length - 1) * part)]);
            const fence = log || !(q3 > q1) ? Infinity : 3 * (q3 - q1);
            for (const v of sorted)
                if (v >= q1 - fence && v <= q3 + fence) low = Math.min(low, v), high = Math.max(high, v);
        }
        if (low > high) return [undefined, undefined];
        if (log) return [low / 1.05, high * 1.05];
        const span = (high - low || Math.abs(high) || 1) * 0.05;
        return [low >= 0 && low < span ? 0 : low - span, high + span];
    }

    function nearest(data, x) {
        let low = 0, high = data.length - 1;
        while (high - low > 1) {
            const middle = (low + high) >> 1;
            if (data[middle].x < x) low = middle; else high = middle;
        }
        return x - data[low]?.x < data[high]?.x - x ? low : high;
    }

    // Of each line the point nearest to the pointer's x, the lines that lie highest first.
    function at_pointer(chart, event) {
        const x = chart.scales.x.getValueForPixel(Chart.helpers.getRelativePosition(event, chart).x);
        return chart.data.datasets.flatMap((d, datasetIndex) => {
            const index = nearest(d.data, x), point = d.data[index], near = (chart.scales.x.max - chart.scales.x.min) / 50;
            const behind = x > d.data.at(-1)?.x + near || x < d.data[0]?.x - near;
            if (d.quiet || d.loose || behind || typeof point?.y !== 'number') return [];
            return [{datasetIndex, index, element: chart.getDatasetMeta(datasetIndex).data[index], y: point.y}];
        }).sort((a, b) => b.y - a.y).slice(0, MOST_TOLD);
    }

    // The tooltip stands on the side of the pointer that has more room; called as its method.
    function beside(items, {x}) {
        const {left, right, top, bottom} = this.chart.chartArea;
        return {x, y: (top + bottom) / 2, xAlign: x < (left + right) / 2 ? 'left' : 'right', yAlign: 'center'};
    }

    const marks = {                                 // the pointer's line, and what is being zoomed to
        id: 'marks',
        afterDraw(chart) {
            const {ctx, chartArea: {top, bottom}, tooltip, selected} = chart;
            ctx.save();
            ctx.fillStyle = ctx.strokeStyle = style('--soft');
            if (tooltip?.opacity && tooltip.dataPoints?.length) ctx.fillRect(tooltip.caretX, top, 0.5, bottom - top);
            ctx.globalAlpha = 0.2;
            if (selected) ctx.fillRect(selected[0], top, selected[1] - selected[0], bottom - top);
            ctx.restore();
        },
    };

    // Logarithmic axes have their limits among the ticks, which are no round numbers.
    function y_tick(y, i, ticks) {
        return this.type === 'logarithmic' && (i === 0 || i === ticks.length - 1) ? '' : digits(y, 3);
    }

    function make_panel(panel) {
        const canvas = element('canvas'), caption = element('figcaption');
        panel.caption = caption;
        panel.figure = element('figure', [caption, element('div', canvas)], {className: 'panel', hidden: true});
        $('panels').append(panel.figure);
        const say = panel.x === 'seconds' ? time : short;
        const axis = (callback, more) => ({type: 'linear', ticks: {callback, includeBounds: false, maxTicksLimit: 8, ...more}});
        const callbacks = {
            title: items => items.length ? `${say(items[0].parsed.x)} ${panel.x === 'tokens' ? 'tokens' : ''}` : '',
            label: ({dataset, dataIndex, parsed: {y}}) => {
                const raw = dataset.beside?.[dataIndex].y;
                return `${dataset.label}: ${raw === undefined ? digits(y, 5) : `${digits(raw, 5)}, smoothed ${digits(y, 5)}`}`;
            },
        };
        panel.chart = new Chart(canvas, {
            type: 'line', data: {datasets: []}, plugins: [marks],
            options: {
                parsing: false, normalized: true, maintainAspectRatio: false, interaction: {mode: 'at_pointer'},
                scales: {x: axis(say, {maxRotation: 0}), y: axis(y_tick)},
                plugins: {
                    legend: {display: false},
                    tooltip: {position: 'beside', caretSize: 0, caretPadding: 12, boxPadding: 4, multiKeyBackground: 'transparent',
                        callbacks},
                },
            },
        });
        take_zoom(panel, canvas);
    }

    function take_zoom(panel, canvas) {
        const {chart} = panel, inside = x => Math.min(Math.max(x, chart.chartArea.left), chart.chartArea.right);
        canvas.addEventListener('pointerdown', e => {
            if (e.button !== 0 || e.pointerType === 'touch') return;
            chart.selected = [inside(e.offsetX), inside(e.offsetX)];
            canvas.setPointerCapture(e.pointerId);
        });
        canvas.addEventListener('pointermove', e => {
            if (!chart.selected) return;
            chart.selected[1] = inside(e.offsetX);
            chart.draw();
        });
        canvas.addEventListener('pointerup', () => {
            if (!chart.selected) return;
            const [from, to] = chart.selected.sort((a, b) => a - b);
            chart.selected = null;
            if (to - from > 5) zoom[panel.x] = [from, to].map(x => chart.scales.x.getValueForPixel(x));
            draw();
        });
        canvas.addEventListener('dblclick', whole_length);
    }

    function whole_length() {
        zoom.tokens = zoom.seconds = null;
        draw();
    }

    function draw_panel(panel, all) {
        const datasets = all.flatMap(run => panel.of(run, panel.x)), log = panel.loss && $('log').checked, within = zoom[panel.x];
        panel.figure.hidden = !datasets.some(d => !d.loose && d.data.some(p => p.y !== null));
        if (panel.figure.hidden) return;
        const unit = panel.loss ? $('unit').selectedOptions[0].text : panel.more?.();
        const over = panel.x === 'tokens' ? 'tokens' : 'time of training';
        panel.caption.replaceChildren(element('b', panel.title), `${unit ? ` ${unit},` : ''} over ${over}`);
        const {scales} = panel.chart.options, last = Math.max(...datasets.map(d => d.data.at(-1)?.x ?? 0));
        for (const axis of Object.values(scales)) {
            axis.grid = {color: style('--grid'), borderColor: style('--line')};
            axis.ticks.color = style('--soft');
        }
        [scales.x.min, scales.x.max] = within ?? [0, last * 1.01 || undefined];
        scales.y.type = log ? 'logarithmic' : 'linear';
        [scales.y.min, scales.y.max] = limits(datasets, within, log);
        panel.chart.data.datasets = datasets;
        panel.chart.update('none');
    }

    function draw() {
        if (due) return;
        due = true;
        setTimeout(() => {
            due = false;
            const start = performance.now(), colors = new Set();
            const all = drawn().map(r => {
                const color = color_of(shown.get(r.id)), dash = colors.has(color) ? [2, 2] : [];
                colors.add(color);
                return {...runs.get(r.id), name: r.name, color, dash};
            });
            for (const panel of panels) draw_panel(panel, all);
            draw_config(all);
            draw_samples(all);
            $('reset').disabled = !zoom.tokens && !zoom.seconds;
            const sum = of => all.reduce((s, r) => s + of(r.steps.step), 0);
            requestAnimationFrame(() => setTimeout(() => {      // behind the frame in which it is seen
                const ms = Math.round(performance.now() - start);
                const points = sum(step => step.length), steps = sum(step => step.at(-1) ?? 0);
                $('drawn').textContent = points ? `${points} of ${steps} steps drawn in ${ms} ms` : '';
            }));
        });
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Tables and texts

    // Makes what a section holds anew where it says something else: whoever reads or selects there is left alone. Whether it did.
    function fill(section, said, make) {
        const text = JSON.stringify(said), anew = filled.get(section) !== text;
        if (anew) section.lastElementChild.replaceChildren(...make());
        filled.set(section, text);
        return anew;
    }

    function draw_config(all) {
        const values = all.map(r => new Map(r.config)), keys = [...new Set(all.flatMap(r => r.config.map(([key]) => key)))];
        const differ = keys.filter(key => key !== 'run.dir' && new Set(values.map(v => v.get(key))).size > 1);
        $('config').hidden = keys.length === 0;
        const told = alone() ? keys : differ;
        const rows = [['', ...all.map(r => r.name)], ...told.map(key => [key, ...values.map(v => v.get(key) ?? '')])];
        const title = alone() ? 'Config' : differ.length ? 'Config, where the runs differ' : 'Config: all the same';
        $('config').firstElementChild.textContent = title;
        fill($('config'), rows, () => [element('table', rows.map(([key, ...texts]) =>
            element('tr', [element('th', key), ...texts.map(text => element('td', text, {title: text}))])))]);
    }

    function draw_samples(all) {
        const texts = all.filter(r => r.samples).map(r => [r.name, r.samples]);
        $('samples').hidden = texts.length === 0;
        const make = () => texts.map(([name, text]) => element('article', [element('h3', name), element('pre', text)]));
        if (!fill($('samples'), texts, make)) return;
        for (const box of $('samples').querySelectorAll('pre')) box.scrollTop = box.scrollHeight;
    }

    function show(r, on) {
        if (on) shown.set(r.id, choose_color(r)); else shown.delete(r.id);
        if (on && runs.get(r.id)?.version !== r.version) load(`run-${r.id}.js`);
    }

    function only(r) {
        shown.clear();
        show(r, true);
    }

    function draw_list() {
        const number = text => element('td', text, {className: 'number'}), changed = () => { draw_list(); draw(); };
        $('runs').hidden = list.runs.length === 0;
        $('runs').tBodies[0].replaceChildren(...list.runs.map(r => {
            const box = element('input', '', {type: 'checkbox', checked: shown.has(r.id), ariaLabel: r.name});
            const name = element('button', r.name, {title: 'this run only'}), swatch = element('span', '', {className: 'swatch'});
            box.onchange = () => { show(r, box.checked); changed(); };
            name.onclick = () => { only(r); changed(); };
            if (shown.has(r.id)) swatch.style.background = color_of(shown.get(r.id));
            const optimizer = r.optimizer && `${r.optimizer}, lr ${digits(r.lr)}`;
            return element('tr', [
                element('td', [box, swatch]), element('td', name), element('td', optimizer),
                number(r.steps ? `${r.step} / ${r.steps}` : `${r.step}`), number(digits(r.val_loss, 5)), number(digits(r.val_bpb)),
                number(r.seconds === undefined ? '' : time(r.seconds)), number(digits(r.tok_per_s, 5)), element('td', r.state),
            ]);
        }));
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Reading

    function load(file) {
        const script = element('script', '', {src: `${file}?${Date.now()}`});
        script.onload = () => script.remove();
        script.onerror = () => {
            script.remove();
            $('note').textContent = 'nobody answers: make watch has ended, this is how it was';
        };
        document.head.append(script);
    }

    function take_list(said) {
        $('note').textContent = said.runs.length === 0 ? 'no run yet: make train begins one' : said.found > said.runs.length
            ? `the newest ${said.runs.length} of ${said.found} runs` : '';
        if (JSON.stringify(said) === listed) return;
        list = said;
        listed = JSON.stringify(said);
        document.title = $('folder').textContent = list.folder;
        if (!known) $('unit').value = list.bits ? 'bits' : 'nats';
        const newest = [...list.runs].sort((a, b) => b.changed - a.changed).slice(0, FIRST);
        for (const r of list.runs)                              // those that begin while somebody looks are shown as well
            if (known ? !known.has(r.id) && r.state === 'running' : newest.includes(r)) shown.set(r.id, choose_color(r));
        known = new Set(list.runs.map(r => r.id));
        for (const id of [...shown.keys()]) if (!known.has(id)) shown.delete(id);
        for (const r of list.runs)
            if (shown.has(r.id) && runs.get(r.id)?.version !== r.version) load(`run-${r.id}.js`);
        draw_list();
        draw();
    }

    function take_run(said) {
        runs.set(said.id, said);
        draw();
    }

    function begin() {
        if (!window.Chart) {
            $('note').textContent = 'chart.js is missing beside this page: make watch writes it anew';
            return;
        }
        Chart.defaults.animation = false;
        Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
        Chart.Interaction.modes.at_pointer = at_pointer;
        Chart.Tooltip.positioners.beside = beside;
        panels.forEach(make_panel);
        $('unit').onchange = $('log').onchange = draw;
        $('reset').onclick = whole_length;
        matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { draw_list(); draw(); });
        load('runs.js');
        setInterval(() => document.hidden || load('runs.js'), EVERY);
    }

    return {list: take_list, run: take_run, begin};
})();

watch.begin();
