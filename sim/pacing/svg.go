package pacing

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// Series is one line or cloud of points of a chart.
type Series struct {
	Name   string
	Points [][2]float64
	Line   bool
}

// Chart is a small log-log chart.
type Chart struct {
	Title, X, Y string
	Series      []Series
}

const (
	chartWidth, chartHeight = 900, 560
	left, right, top, floor = 80, 250, 40, 60
)

var colours = []string{"#0b6e4f", "#1f77b4", "#d62728", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf", "#3d348b", "#000000", "#c44536", "#6a994e"}

// bounds are the decades that hold every positive point.
func (c Chart) bounds() (lo, hi [2]float64) {
	lo, hi = [2]float64{math.Inf(1), math.Inf(1)}, [2]float64{math.Inf(-1), math.Inf(-1)}
	for _, s := range c.Series {
		for _, p := range s.Points {
			for i, v := range p {
				if v > 0 {
					lo[i], hi[i] = min(lo[i], math.Floor(math.Log10(v))), max(hi[i], math.Ceil(math.Log10(v)))
				}
			}
		}
	}
	for i := range lo {
		if math.IsInf(lo[i], 0) {
			lo[i], hi[i] = 0, 1
		}
		hi[i] = max(hi[i], lo[i]+1)
	}
	return lo, hi
}

// SVG draws the chart; points that are not positive lie on the axes.
func (c Chart) SVG(out io.Writer) error {
	lo, hi := c.bounds()
	x := func(v float64) float64 {
		return left + (chartWidth-left-right)*(math.Log10(max(v, math.Pow(10, lo[0])))-lo[0])/(hi[0]-lo[0])
	}
	y := func(v float64) float64 {
		return chartHeight - floor - (chartHeight-top-floor)*(math.Log10(max(v, math.Pow(10, lo[1])))-lo[1])/(hi[1]-lo[1])
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12"><rect width="100%%" height="100%%" fill="#fff"/>`+"\n", chartWidth, chartHeight)
	text := func(x, y float64, anchor, s string) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, escape.Replace(s))
	}
	line := func(x1, y1, x2, y2 float64) {
		fmt.Fprintf(&b, `<path d="M%.1f %.1fL%.1f %.1f" stroke="#ddd"/>`+"\n", x1, y1, x2, y2)
	}
	text(left, 24, "start", c.Title)
	text(left+(chartWidth-left-right)/2, chartHeight-16, "middle", c.X)
	text(12, top-12, "start", c.Y)
	for d := lo[0]; d <= hi[0]; d++ {
		v := math.Pow(10, d)
		line(x(v), top, x(v), chartHeight-floor)
		text(x(v), chartHeight-floor+16, "middle", fmt.Sprintf("%g", v))
	}
	for d := lo[1]; d <= hi[1]; d++ {
		v := math.Pow(10, d)
		line(left, y(v), chartWidth-right, y(v))
		text(left-6, y(v)+4, "end", fmt.Sprintf("%g", v))
	}
	for i, s := range c.Series {
		colour := colours[i%len(colours)]
		var path strings.Builder
		for j, p := range s.Points {
			if s.Line {
				fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(j, 1)], x(p[0]), y(p[1]))
				continue
			}
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="5" fill="%s"/>`+"\n", x(p[0]), y(p[1]), colour)
		}
		if s.Line {
			fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", path.String(), colour)
		}
		at := float64(top + 18*i)
		fmt.Fprintf(&b, `<rect x="%d" y="%.1f" width="12" height="12" fill="%s"/>`+"\n", chartWidth-right+14, at, colour)
		text(chartWidth-right+32, at+10, "start", s.Name)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(out, b.String())
	return err
}

var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// HarmAgainstTime charts, for every policy, the median harm of a fault against
// the minutes in which a good release protects 99 %.
func HarmAgainstTime(rows []Row, good, fault string) Chart {
	c := Chart{Title: "harm by " + fault + " against speed without a fault", X: "minutes until 99 % of the reachable are protected", Y: "endpoints harmed (median)"}
	speed := map[string]float64{}
	for _, r := range rows {
		if r.Fault == good {
			speed[r.Policy] = r.Quantile(0.5, func(x Result) float64 { return x.T99 }, true)
		}
	}
	for _, r := range rows {
		if t := speed[r.Policy]; r.Fault == fault && t > 0 {
			c.Series = append(c.Series, Series{Name: r.Policy, Points: [][2]float64{{t, r.Quantile(0.5, func(x Result) float64 { return x.Harmed }, false)}}})
		}
	}
	return c
}

// Windows charts how many endpoints are exposed over time, beside the steps of
// the limit.
func Windows(f *Fleet, policies []Policy, fault Fault, seed uint64, limit []int64) Chart {
	c := Chart{Title: "endpoints exposed under " + fault.Name, X: "minutes", Y: "endpoints"}
	for _, p := range policies {
		s := Series{Name: p.Name, Line: true}
		for i, n := range p.Trace(f, fault, seed).Trace {
			if i == 0 || n != s.Points[len(s.Points)-1][1] {
				s.Points = append(s.Points, [2]float64{float64(i+1) * second / 60, n})
			}
		}
		c.Series = append(c.Series, s)
	}
	s := Series{Name: "the limit, 100 s a gate", Line: true}
	for k, n := range limit {
		s.Points = append(s.Points, [2]float64{max(1, float64(k)*10) * second / 60, float64(n)})
	}
	c.Series = append(c.Series, s)
	return c
}
