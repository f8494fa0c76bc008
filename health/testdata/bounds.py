# Reference limits, computed with mpmath 1.3 at 60 digits by bisection on the
# distribution functions themselves (summed or by hypergeometric series): nothing
# here shares code with gonum. Run: python3 bounds.py > bounds.txt
from mpmath import mp, mpf, betainc, gammainc, findroot
mp.dps = 40

def bisect(f, lo, hi):
    lo, hi = mpf(lo), mpf(hi)
    for _ in range(110):
        m = (lo + hi) / 2
        if f(m): lo = m
        else: hi = m
    return hi

def binom_tail(F, n, p):   # P(Bin(n,p) <= F)
    t = (1 - p) ** n; s = t
    for k in range(F):
        t *= mpf(n - k) / (k + 1) * p / (1 - p); s += t
    return s

def pois_tail(F, m):
    t = mp.e ** (-m); s = t
    for k in range(F):
        t *= m / (k + 1); s += t
    return s

print("# by bounds.py; columns: kind count n delta limit")
for F, n in [(0, 47), (1, 47), (2, 5654), (5, 5654), (30, 15000), (46, 47), (200, 20000)]:
    for d in ["1e-1", "1e-3", "1.25e-4", "1e-8"]:
        print("rate", F, n, d, mp.nstr(bisect(lambda p: binom_tail(F, n, p) > mpf(d), mpf(F) / n, 1), 15))
for F in [0, 1, 2, 13, 133, 1700]:
    for d in ["1e-1", "1e-3", "1.25e-4", "1e-8"]:
        print("mean", F, 0, d, mp.nstr(bisect(lambda m: pois_tail(F, m) > mpf(d), F, F * 2 + 60), 15))
for F in [150000, 10000000]:
    for d in ["1e-3", "1e-8"]:
        print("mean", F, 0, d, mp.nstr(bisect(lambda m: gammainc(F + 1, m, mp.inf, regularized=True) > mpf(d), F, F * 1.1), 15))
for F in [1, 4, 40, 1700, 60000]:   # Garwood's lower limit
    for d in ["1e-1", "1e-3", "6.25e-5"]:
        print("lower", F, 0, d, mp.nstr(bisect(lambda m: 1 - pois_tail(F - 1, m) < mpf(d), 0, F), 15))
