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
	Limit  bool // dotted, in black: no policy's
}

// Chart is a small chart on a logarithmic x axis. Lines are steps: a number
// holds until the next.
type Chart struct {
	Title, X, Y string
	Linear      bool // the y axis, from 0
	Series      []Series
}

const (
	chartWidth, chartHeight = 960, 560
	left, right, top, floor = 90, 250, 50, 60
	plotWidth, plotHeight   = chartWidth - left - right, chartHeight - top - floor
)

// Colours of the product's policies and their rivals, apart for the colour-blind
// too: Okabe and Ito's eight, then darker ones; markers tell the rest.
var colours = []string{"#009e73", "#0072b2", "#d55e00", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#b0a000", "#7f7f7f", "#5e3c99", "#8c510a", "#01665e", "#c51b7d", "#4d9221"}

// axis maps values to 0..1.
type axis struct {
	lo, hi float64 // decades, or values if linear
	linear bool
}

func (a axis) at(v float64) float64 {
	if !a.linear {
		v = math.Log10(max(v, math.Pow(10, a.lo)))
	}
	return (v - a.lo) / (a.hi - a.lo)
}

// ticks are the values that get a grid line.
func (a axis) ticks() (out []float64) {
	step := 1.0
	if a.linear {
		step = max(1, math.Ceil((a.hi-a.lo)/10))
	}
	for v := a.lo; v <= a.hi; v += step {
		if a.linear {
			out = append(out, v)
		} else {
			out = append(out, math.Pow(10, v))
		}
	}
	return out
}

// axes hold every positive point.
func (c Chart) axes() (out [2]axis) {
	for i := range out {
		lo, hi := math.Inf(1), math.Inf(-1)
		for _, s := range c.Series {
			for _, p := range s.Points {
				if p[i] > 0 {
					lo, hi = min(lo, p[i]), max(hi, p[i])
				}
			}
		}
		switch {
		case math.IsInf(lo, 0):
			out[i] = axis{hi: 1}
		case i == 1 && c.Linear:
			out[i] = axis{hi: math.Ceil(hi) + 1, linear: true}
		default:
			lo = math.Floor(math.Log10(lo))
			out[i] = axis{lo: lo, hi: max(lo+1, math.Ceil(math.Log10(hi)))}
		}
	}
	return out
}

// short is a number for an axis: 1000 is 1k.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%gk", v/1e3)
	}
	return fmt.Sprintf("%g", v)
}

// drawing collects the elements of an SVG.
type drawing struct {
	strings.Builder
	axes [2]axis
}

func (d *drawing) x(v float64) float64 { return left + plotWidth*d.axes[0].at(v) }
func (d *drawing) y(v float64) float64 { return chartHeight - floor - plotHeight*d.axes[1].at(v) }

func (d *drawing) text(x, y float64, more, s string) {
	fmt.Fprintf(d, `<text x="%.1f" y="%.1f" %s>%s</text>`+"\n", x, y, more, escape.Replace(s))
}

// SVG draws the chart; points that are not positive lie on the axes.
func (c Chart) SVG(out io.Writer) error {
	d := &drawing{axes: c.axes()}
	fmt.Fprintf(d, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12"><rect width="100%%" height="100%%" fill="#fff"/>`+"\n", chartWidth, chartHeight)
	d.text(left, 28, `font-size="15" font-weight="bold"`, c.Title)
	d.text(left+plotWidth/2, chartHeight-16, `text-anchor="middle"`, c.X)
	d.text(0, 0, fmt.Sprintf(`text-anchor="middle" transform="translate(22 %d) rotate(-90)"`, top+plotHeight/2), c.Y)
	for _, v := range d.axes[0].ticks() {
		fmt.Fprintf(d, `<path d="M%.1f %dV%d" stroke="#ddd"/>`+"\n", d.x(v), top, chartHeight-floor)
		d.text(d.x(v), chartHeight-floor+18, `text-anchor="middle"`, short(v))
	}
	for _, v := range d.axes[1].ticks() {
		fmt.Fprintf(d, `<path d="M%d %.1fH%d" stroke="#ddd"/>`+"\n", left, d.y(v), chartWidth-right)
		d.text(left-8, d.y(v)+4, `text-anchor="end"`, short(v))
	}
	for i, s := range c.Series {
		d.series(i, s)
		d.legend(i, s)
	}
	d.WriteString("</svg>\n")
	_, err := io.WriteString(out, d.String())
	return err
}

// series draws a line as steps, points as markers. A step too small to be seen
// is left out.
func (d *drawing) series(i int, s Series) {
	if !s.Line {
		for _, p := range s.Points {
			d.marker(i, d.x(p[0]), d.y(p[1]))
		}
		return
	}
	var path strings.Builder
	lastX, lastY := math.Inf(-1), math.Inf(-1)
	for j, p := range s.Points {
		x, y := d.x(p[0]), d.y(p[1])
		switch {
		case j == 0:
			fmt.Fprintf(&path, "M%.1f %.1f", x, y)
		case j < len(s.Points)-1 && math.Abs(x-lastX) < 0.7 && math.Abs(y-lastY) < 0.7:
			continue
		default:
			fmt.Fprintf(&path, "H%.1fV%.1f", x, y)
		}
		lastX, lastY = x, y
	}
	fmt.Fprintf(d, `<path d="%s" fill="none" %s/>`+"\n", path.String(), stroke(i, s))
}

// stroke is a line's style. Earlier ones are thicker, so that they are seen beneath
// later ones on the same way.
func stroke(i int, s Series) string {
	switch width := max(1.5, 4-0.4*float64(i)); {
	case s.Limit:
		return `stroke="#000" stroke-width="2.5" stroke-dasharray="2 3"`
	case i%2 == 1:
		return fmt.Sprintf(`stroke="%s" stroke-width="%.1f" stroke-dasharray="7 3"`, colours[i%len(colours)], width)
	default:
		return fmt.Sprintf(`stroke="%s" stroke-width="%.1f"`, colours[i%len(colours)], width)
	}
}

func (d *drawing) marker(i int, x, y float64) {
	shape := [...]string{"M-6 0a6 6 0 1 0 12 0a6 6 0 1 0 -12 0z", "M-5-5h10v10h-10z", "M0-7l7 12h-14z", "M0-7l6 7l-6 7l-6-7z"}[i%4]
	fmt.Fprintf(d, `<path transform="translate(%.1f %.1f)" d="%s" fill="%s" fill-opacity="0.85" stroke="#fff"/>`+"\n", x, y, shape, colours[i%len(colours)])
}

func (d *drawing) legend(i int, s Series) {
	x, y := float64(chartWidth-right+16), float64(top+8+20*i)
	if s.Line {
		fmt.Fprintf(d, `<path d="M%.1f %.1fh22" %s/>`+"\n", x, y, stroke(i, s))
	} else {
		d.marker(i, x+11, y)
	}
	d.text(x+30, y+4, "", s.Name)
}

var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// HarmAgainstTime charts, for every policy, the median harm of a fault against
// the minutes in which a good release protects 99 %.
func HarmAgainstTime(rows []Row, good, fault string) Chart {
	c := Chart{Title: "Harm by " + fault + " against speed without a fault", X: "minutes until 99 % of the reachable are protected (" + good + ", median; left out is who never gets there)", Y: "endpoints harmed (median)"}
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
	c := Chart{Title: "Endpoints exposed over time: " + fault.Name, X: "minutes", Y: "endpoints"}
	for _, p := range policies {
		s := Series{Name: p.Name, Line: true}
		for i, n := range p.Trace(f, fault, seed).Trace {
			if i == 0 || n != s.Points[len(s.Points)-1][1] {
				s.Points = append(s.Points, [2]float64{float64(i+1) * second / 60, n})
			}
		}
		c.Series = append(c.Series, s)
	}
	s := Series{Name: "the limit, 100 s a gate", Line: true, Limit: true}
	for k, n := range limit {
		s.Points = append(s.Points, [2]float64{max(1, float64(k)*10) * second / 60, float64(n)})
	}
	c.Series = append(c.Series, s)
	return c
}
