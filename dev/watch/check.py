#!/usr/bin/env python3
"""The page of `make watch` as a person meets it, in headless Chromium: dev/watch/check.sh calls this.

    python check.py FOLDER        screenshots and runs are left in FOLDER

Tiny models train: two that have ended, one with experts, and one that goes on while the page is open. Tried is the page as a file
and from the server: every panel is drawn, nothing is said on the console, the training's steps arrive without a reload, names stay
names, the pointer tells values, a drag zooms and a double click takes it back, and 100,000 steps are drawn in under a second, by
the page's own clock from the data's arrival to the frame that shows it. Ends with exit code 1 where something does not hold.
"""
import json
import math
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

from playwright.sync_api import sync_playwright

HOSTILE = '<img src=x onerror="window.broken=1"> "é"'
SMALL = ["--train.batch=4", "--train.eval_every=20", "--train.eval_tokens=4096", "--train.final_eval_tokens=4096", "--train.save_every=0"]


def check(fine, what):
    print(("ok   " if fine else "FAIL ") + what, flush=True)
    check.failed += not fine


check.failed = 0


def train(config, folder, steps, *keys, wait=True):
    words = ["./train_gpt", f"configs/{config}.json", f"--run.dir={folder}", f"--train.steps={steps}", *SMALL, *keys]
    program = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    if wait and program.wait() != 0:
        sys.exit(f"FAIL {' '.join(words)}")
    return program


def long_log(path, steps=100_000):
    """A log as a long training leaves it, with spikes, heads and loads."""
    draw = random.Random(1)
    path.mkdir(parents=True)
    with open(path / "log.jsonl", "w") as f:
        config = {"optimizer": {"name": "muonclip", "muon": {"lr": 0.005}, "qk_clip": {"tau": 100}}, "train": {"steps": steps}}
        f.write(json.dumps({"event": "start", "step": 0, "config": config}) + "\n")
        for i in range(1, steps + 1):
            loss = 2.5 + 6 * math.exp(-i / 3000) + draw.gauss(0, 0.1) + (3 if i % 20011 == 0 else 0)
            f.write(json.dumps({"event": "step", "step": i, "tokens": 2048 * i, "loss": loss, "bpb": loss / 2.6, "lr": 0.005 * min(1, 2 - 2 * i / steps),
                                "grad_norm": 0.5 + draw.expovariate(5), "max_logit": 20 + draw.gauss(0, 2), "ms": 60, "tok_per_s": draw.gauss(34000, 500)}) + "\n")
            if i % 10 == 0:
                heads = [[round(draw.gauss(10 + layer, 2), 4) for _ in range(6)] for layer in range(6)]
                f.write(json.dumps({"event": "qk", "step": i, "max_logit": heads, "clipped": 0}) + "\n")
            if i % 1000 == 0:
                f.write(json.dumps({"event": "eval", "step": i, "tokens": 2048 * i, "val_loss": loss + 0.1, "val_bpb": loss / 2.6, "train_seconds": 0.06 * i,
                                    "eval_tokens": 32768}) + "\n")


class Watch:
    """build/watch on a folder, with a server."""

    def __init__(self, folder):
        self.program = subprocess.Popen(["build/watch", folder, "--port=0"], stdout=subprocess.PIPE, text=True)
        said = self.program.stdout.readline() + self.program.stdout.readline()
        self.address = re.search(r"http://127.0.0.1:\d+/", said)[0]
        self.file = "file://" + re.search(r"in (/.*index.html)", said)[1]

    def end(self):
        self.program.send_signal(signal.SIGINT)
        return self.program.wait()


class Page:
    """A page, and all that it complains of."""

    def __init__(self, browser, address, scheme="light"):
        self.said = []
        self.page = browser.new_page(viewport={"width": 1400, "height": 1000}, color_scheme=scheme)
        self.page.on("console", lambda m: self.said.append(f"{m.type}: {m.text}"))
        self.page.on("pageerror", lambda e: self.said.append(str(e)))
        self.page.on("requestfailed", lambda r: self.said.append(f"{r.url}: {r.failure}"))
        self.page.goto(address)
        self.page.wait_for_function("/drawn in/.test(document.getElementById('drawn').textContent)", timeout=60000)
        self.page.wait_for_timeout(1000)

    def drawn(self):
        """Points, steps and milliseconds of the last drawing."""
        return [int(x) for x in re.findall(r"\d+", self.page.text_content("#drawn"))]

    def shown(self):
        return [caption for caption in self.page.locator(".panel:visible figcaption").all_inner_texts()]

    def range(self, panel):
        x = "Chart.getChart(document.querySelectorAll('.panel canvas')[%d]).scales.x" % panel
        return self.page.evaluate(f"[{x}.min, {x}.max]")

    def close(self, name):
        check(not self.said, f"{name}: nothing on the console" + "".join(f"; {s}" for s in self.said[:3]))
        self.page.close()


def finished(browser, folder, shots):
    watch = Watch(folder)
    for address, name in ((watch.file, "a file"), (watch.address, "the server")):
        p = Page(browser, address)
        check(len(p.shown()) == 8, f"{name}: all panels are drawn: {len(p.shown())} of 8")
        table = p.page.text_content("#config")
        check("optimizer.name" in table and "muonclip" in table and "adamw" in table, f"{name}: where the configs differ")
        check(p.page.locator("#samples pre").count() == 3, f"{name}: samples of three runs")
        check(p.page.locator("#runs tbody tr").count() == 4 and HOSTILE in p.page.text_content("#runs"), f"{name}: the names as they are")
        check(p.page.evaluate("window.broken === undefined && document.querySelector('img') === null"), f"{name}: a name is no HTML")
        p.page.screenshot(path=shots / f"finished-{name.split()[-1]}.png", full_page=True)
        p.close(name)
    p = Page(browser, watch.address, "dark")
    box = p.page.locator(".panel canvas").first.bounding_box()
    whole, y = p.range(0), box["y"] + box["height"] / 2
    p.page.mouse.move(box["x"] + box["width"] * 0.6, y)
    p.page.wait_for_timeout(300)
    told = p.page.evaluate("Chart.getChart(document.querySelector('.panel canvas')).tooltip.body.flatMap(b => b.lines)")
    check(len(told) >= 6 and any("smoothed" in t for t in told), f"the pointer tells values: {told[:2]}")
    p.page.screenshot(path=shots / "finished-dark.png")
    p.page.mouse.move(box["x"] + box["width"] * 0.5, y)
    p.page.mouse.down()
    p.page.mouse.move(box["x"] + box["width"] * 0.7, y, steps=5)
    p.page.mouse.up()
    p.page.wait_for_timeout(500)
    near, other = p.range(0), p.range(2)
    check(near == other and 0 < near[0] < near[1] < whole[1], f"a drag zooms all panels over tokens: {whole} to {near}")
    p.page.screenshot(path=shots / "finished-zoomed.png")
    p.page.mouse.dblclick(box["x"] + box["width"] * 0.5, y)
    p.page.wait_for_timeout(500)
    check(p.range(0) == whole, "a double click takes it back")
    p.page.select_option("#unit", "bits")
    p.page.check("#log")
    p.page.get_by_role("button", name="muonclip", exact=True).click()
    p.page.wait_for_timeout(700)
    check("bits per byte" in p.shown()[0] and any("each head" in s for s in p.shown()), "one run alone shows its heads, losses in bits per byte")
    check("model.layers" in p.page.text_content("#config"), "one run alone shows its whole config")
    p.page.screenshot(path=shots / "one-dark.png", full_page=True)
    p.close("pointer and zoom")
    check(watch.end() == 0, "Ctrl-C ends it")


def running(browser, folder, shots):
    watch = Watch(folder)
    p, as_file = Page(browser, watch.address), Page(browser, watch.file)
    training = train("default", f"{folder}/running", 2000, "--train.sample_every=20", wait=False)
    seen, end = [], time.time() + 100
    while time.time() < end and (len(seen) < 4 or "running" not in p.page.text_content("#runs")):
        p.page.wait_for_timeout(500)
        row = p.page.locator("#runs tbody tr", has_text="running").first
        step = int(row.locator("td").nth(3).inner_text().split()[0]) if row.count() else 0
        seen += [step] if step and step not in seen else []
    check(len(seen) >= 4 and seen == sorted(seen), f"a running training's steps arrive without a reload: {seen}")
    check(p.page.locator("#runs tbody tr", has_text="running").first.locator("input").is_checked(), "a run that begins is shown")
    step = as_file.page.locator("#runs tbody tr", has_text="running").first.locator("td").nth(3).inner_text()
    check(int(step.split()[0]) >= seen[-2], f"in the page that was opened as a file, too: {step}")
    p.page.screenshot(path=shots / "running.png", full_page=True)
    as_file.page.screenshot(path=shots / "running-file.png")
    as_file.close("running, as a file")
    training.send_signal(signal.SIGINT)
    training.wait()
    p.page.wait_for_timeout(6000)
    check("interrupted" in p.page.text_content("#runs"), "how it ended arrives as well")
    watch.end()
    p.said.clear()
    p.page.wait_for_timeout(3000)
    check("make watch has ended" in p.page.text_content("#note"), "the page says when nobody answers any more")
    p.said.clear()                  # a connection that is refused is told on the console
    p.close("running")


def long_ones(browser, folder, shots):
    began = time.time()
    subprocess.run(["build/watch", str(folder), "--once"], check=True, stdout=subprocess.DEVNULL)
    print(f"     100,000 steps read and written in {time.time() - began:.1f} s")
    p = Page(browser, f"file://{folder.resolve()}/watch/index.html")
    points, steps, ms = p.drawn()
    check(steps == 100_000 and ms < 1000, f"{points} points of {steps} steps drawn in {ms} ms, under 1000 expected")
    times = []
    for _ in range(5):
        p.page.evaluate("document.getElementById('drawn').textContent = ''")
        p.page.click("#log")
        p.page.wait_for_function("document.getElementById('drawn').textContent")
        times.append(p.drawn()[2])
    check(sorted(times)[2] < 1000, f"and again in {times} ms")
    p.page.screenshot(path=shots / "long.png", full_page=True)
    p.close("100,000 steps")


def main():
    shots = pathlib.Path(sys.argv[1])
    shutil.rmtree(shots, ignore_errors=True)
    runs = shots / "runs"
    runs.mkdir(parents=True)
    subprocess.run(["make", "data"], check=True, stdout=subprocess.DEVNULL)
    train("default", runs / "muonclip", 60)
    train("default_adamw", runs / "adamw", 60)
    train("k2", runs / "k2", 40, "--train.batch=2")
    (runs / HOSTILE).mkdir()
    (runs / HOSTILE / "log.jsonl").write_text((runs / "adamw" / "log.jsonl").read_text())
    long_log(shots / "long" / "a")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"] if os.geteuid() == 0 else [])
        finished(browser, str(runs), shots)
        running(browser, str(runs), shots)
        long_ones(browser, shots / "long", shots)
        browser.close()
    print(f"{check.failed} failed" if check.failed else f"all holds; screenshots: {shots}")
    sys.exit(check.failed > 0)


if __name__ == "__main__":
    main()
