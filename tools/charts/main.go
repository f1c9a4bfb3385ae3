// Command charts draws the charts of make bench as PNG files, which look the same with all fonts of a reader. It reads them as JSON from standard input;
// integration/cmd/bench/charts.go defines the format.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image/color"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

type chart struct {
	File   string    `json:"file"`
	Title  string    `json:"title"`
	Unit   string    `json:"unit"`
	Labels []string  `json:"labels"`
	X      []float64 `json:"x"`
	XUnit  string    `json:"x_unit"`
	Series []struct {
		Name   string    `json:"name"`
		Values []float64 `json:"values"`
	} `json:"series"`
}

// colors are the colors of the series. They are distinguishable for color-blind readers.
var colors = []color.Color{
	color.RGBA{R: 0x99, G: 0x99, B: 0x99, A: 0xff},
	color.RGBA{R: 0xe6, G: 0x6a, B: 0x00, A: 0xff},
	color.RGBA{R: 0x56, G: 0xb4, B: 0xe9, A: 0xff},
	color.RGBA{R: 0x00, G: 0x45, B: 0x80, A: 0xff},
}

func main() {
	out := flag.String("out", ".", "output `directory`")
	flag.Parse()
	if err := run(os.Stdin, *out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(in io.Reader, dir string) error {
	var charts []chart
	if err := json.NewDecoder(in).Decode(&charts); err != nil {
		return err
	}
	for _, c := range charts {
		if err := c.draw(dir); err != nil {
			return fmt.Errorf("%s: %w", c.File, err)
		}
	}
	return nil
}

func (c chart) draw(dir string) error {
	p := plot.New()
	p.Title.Text = c.Title
	p.Title.Padding = vg.Points(10)
	p.Y.Label.Text = c.Unit
	p.Y.Label.Padding = vg.Points(8)
	p.Y.Tick.Label.XAlign = draw.XRight
	p.Y.Min = 0
	p.Y.Tick.Marker = plot.TickerFunc(ticks)
	p.Y.Padding, p.X.Padding = vg.Points(4), vg.Points(4)
	p.BackgroundColor = color.White // not transparent: the page may be dark
	p.Legend.Left = true
	p.Legend.Padding = vg.Points(3)
	for _, style := range []*text.Style{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font.Variant = "Sans"
		style.Font.Size = vg.Points(11)
	}
	p.Title.TextStyle.Font.Size = vg.Points(14)
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	p.Add(grid)
	add := c.bars
	if len(c.X) > 0 {
		add = c.lines
	}
	if err := add(p); err != nil {
		return err
	}
	p.Y.Max *= 1.05
	legend := p.Legend
	p.Legend = plot.NewLegend() // it is drawn below the plot, where it covers nothing
	below := vg.Length(len(c.Series)) * vg.Points(16)
	img := vgimg.NewWith(vgimg.UseWH(width, height+below), vgimg.UseDPI(144))
	page := draw.Crop(draw.New(img), vg.Points(8), -vg.Points(24), vg.Points(8), -vg.Points(8))
	p.Draw(draw.Crop(page, 0, 0, below+vg.Points(6), 0))
	legend.Draw(draw.Crop(page, vg.Points(60), 0, 0, 0))
	file, err := os.Create(filepath.Join(dir, c.File))
	if err != nil {
		return err
	}
	_, err = (vgimg.PngCanvas{Canvas: img}).WriteTo(file)
	return errors.Join(err, file.Close())
}

// ticks returns about five round numbers from 0 to limit.
func ticks(_, limit float64) []plot.Tick {
	step := math.Pow(10, math.Floor(math.Log10(limit/2)))
	for limit/step > 6 {
		step *= 2
	}
	var ticks []plot.Tick
	for v := 0.0; v <= limit; v += step {
		ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', 6, 64)})
	}
	return ticks
}

const (
	width  = 9 * vg.Inch
	height = 4.2 * vg.Inch
)

func (c chart) bars(p *plot.Plot) error {
	n := len(c.Series)
	bar := width * 0.6 / vg.Length(n*len(c.Labels))
	for i, s := range c.Series {
		b, err := plotter.NewBarChart(plotter.Values(s.Values), bar)
		if err != nil {
			return err
		}
		b.Color = colors[i%len(colors)]
		b.LineStyle.Width = 0
		b.Offset = bar * vg.Length(float64(i)-float64(n-1)/2)
		p.Add(b)
		p.Legend.Add(s.Name, b)
	}
	p.NominalX(c.Labels...)
	p.X.Min, p.X.Max = -0.5, float64(len(c.Labels))-0.5
	return nil
}

func (c chart) lines(p *plot.Plot) error {
	p.X.Label.Text = c.XUnit
	p.X.Scale = plot.LogScale{}
	p.X.Tick.Marker = plot.LogTicks{Prec: -1}
	for i, s := range c.Series {
		points := make(plotter.XYs, len(c.X))
		for j, x := range c.X {
			points[j].X, points[j].Y = x, s.Values[j]
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		line.Color, dots.Color = colors[i%len(colors)], colors[i%len(colors)]
		line.Width = vg.Points(2)
		p.Add(line, dots)
		p.Legend.Add(s.Name, line, dots)
	}
	return nil
}
