# Reference e-values, computed with mpmath at 40 digits as sums of products, not of
# logarithms: nothing here shares code with package health. Run: python3 evidence.py
# > evidence.txt
#
# evidence: the mixture of decision 0010 over ratios, channels, streams and starts
# (ter Schure, Perez-Ortiz, Ly and Gruenwald 2024 in exponential-ratio form).
# cell: the same for one segment. ebh: Wang and Ramdas 2022, "False discovery rate
# control with e-values", JRSS B 84:822: reject the k* largest, k* the
# largest k with k e_[k] / K >= 1 / alpha.
from mpmath import mp, mpf, log
mp.dps = 40
R = [mpf(3) / 2, mpf(3), mpf(10), mpf(100), mpf(3000)]

def started_by(s):
    s = mpf(s)
    return mpf(1) / 2 + min(mpf(1), s / 86400) / 4 + s / (s + 10) / 4

def factor(r, n1, n0, share):
    return r ** n1 / (1 + (r - 1) * share) ** (n1 + n0)

print("# by evidence.py; evidence CASE seconds harmed silent at_risk control_harmed control_silent controls log_e (cumulative counts)")
CASES = {
    "quiet": [(60, 0, 0, 48, 0, 150, 8000000), (120, 0, 0, 48, 1, 310, 8000000), (7200, 3, 1, 48, 200, 18000, 8000000)],
    "crash": [(60, 1, 0, 48, 2, 150, 8000000), (70, 3, 0, 48, 2, 170, 8000000), (80, 3, 2, 5000, 3, 190, 7995000)],
    "silent": [(100, 0, 0, 48, 0, 200, 8000000), (110, 0, 30, 48, 1, 230, 8000000)],
}
for name, looks in CASES.items():
    S = {}
    last, at, started = (0,) * 6, 0, mpf(0)
    for t, h, q, risk, ch, cq, ctl in looks:
        w = started_by(at) - started
        dh, dq, dch, dcq = h - last[0], q - last[1], ch - last[3], cq - last[4]
        for stream, weight in (("pooled", mpf(3) / 10), ("cover", mpf(7) / 100), ("cohort", mpf(7) / 100)):
            for c, n1, n0 in ((0, dh, dch), (1, dq, dcq), (2, dh + dq, dch + dcq)):
                for r in R:
                    share = mpf(risk) / (risk + ctl)
                    if stream == "cover":
                        n1, share = 0, mpf(0)
                    k = (stream, weight, c, r)
                    S[k] = (S.get(k, mpf(0)) + w) * factor(r, n1, n0, share)
        started, at, last = started + w, t, (h, q, risk, ch, cq, ctl)
        E = 1 - mpf(3) / 10 - 2 * mpf(7) / 100
        for (stream, weight, c, r), s in S.items():
            E += weight / 15 * (s + 1 - started)
        print("evidence", name, t, h, q, risk, ch, cq, ctl, mp.nstr(log(E), 15))

print("# cell CASE started failed control_failed at_risk control_at_risk log_e (cumulative counts)")
CELLS = {
    "dead": [("0.5", 2, 1, 6, 4200), ("0.6", 5, 2, 8, 4200)],
    "noise": [("0.5", 1, 40, 500, 600000), ("0.75", 3, 400, 500, 600000)],
}
for name, looks in CELLS.items():
    S, last, before = None, (0, 0), mpf(0)
    for started, n1, n0, risk, ctl in looks:
        started = mpf(started)
        share = mpf(risk) / (risk + ctl)
        S = [((S[i] if S else 0) + started - before) * factor(r, n1 - last[0], n0 - last[1], share) for i, r in enumerate(R)]
        last, before = (n1, n0), started
        print("cell", name, mp.nstr(started, 3), n1, n0, risk, ctl, mp.nstr(log(sum(s + 1 - started for s in S) / 5), 15))

print("# ebh alpha rejected e-values, which stand in falling order")
for alpha, e in [("0.1", [200, 60, 25, 12, 3, 1]), ("0.05", [500, 90, 41, 8, "0.5"]), ("0.05", [90, 50, 42, 40, "20.1"]), ("0.001", [900, 800, 5]), ("0.2", [24, 11, "8.4", 6, 4])]:
    K, rejected = len(e), 0
    for k in range(1, K + 1):
        if k * mpf(e[k - 1]) / K >= 1 / mpf(alpha):
            rejected = k
    print("ebh", alpha, rejected, *e)
