package server

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"

	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// newBrowser is a real browser, Debian's Chromium, in which pages run no script.
// Where there is none the test is skipped; with HEADGATE_REQUIRE_CHROMIUM it fails.
// What the browser complains of, such as a style that the page's own policy forbids,
// fails the test.
func newBrowser(t *testing.T, width int64) context.Context {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("HEADGATE_REQUIRE_CHROMIUM") != "" {
			t.Fatal("Chromium is not installed")
		}
		t.Skip("no Chromium on this machine (Debian: chromium): pages are not tested in a real browser")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:len(chromedp.DefaultExecAllocatorOptions):len(chromedp.DefaultExecAllocatorOptions)],
		chromedp.ExecPath(program), chromedp.WindowSize(int(width), 900))
	if os.Getuid() == 0 { // its sandbox refuses root; the pages are our own
		options = append(options, chromedp.NoSandbox)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(stop)
	ctx, end := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(end)
	ctx, leave := chromedp.NewContext(ctx)
	t.Cleanup(leave)
	check(t, chromedp.Listen(ctx, func(e any) {
		if e, ok := e.(*log.EventEntryAdded); ok && e.Entry.Level == log.EntryLevelError && !strings.Contains(e.Entry.Text, "status of 4") {
			t.Errorf("the browser says: %s (%s)", e.Entry.Text, e.Entry.URL)
		}
	}))
	_, err = chromedp.Call(ctx, log.Enable, cdp.Empty{})
	check(t, err)
	_, err = chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	check(t, err)
	check(t, chromedp.Do(ctx, chromedp.EmulateViewport(width, 900)))
	return ctx
}

// look is what shows sees of a page, and the expression that finds it.
type look struct {
	Wide, Headings, Unnamed int
	Language                string
}

const lookAt = `({
	Wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
	Headings: document.querySelectorAll("h1").length,
	Unnamed: [...document.querySelectorAll("input:not([type=hidden]), textarea, select")].filter(e => !e.labels.length).length +
		[...document.querySelectorAll("img")].filter(e => !e.hasAttribute("alt")).length,
	Language: document.documentElement.lang,
})`

// shows runs actions, of which the last may be done twice, and then looks at the page: it fits its width, each field has a
// label and each image a text, and there is one first heading. The folder
// HEADGATE_SCREENSHOTS, if it is set, gets a picture. It returns the page's text.
func shows(t *testing.T, ctx context.Context, name string, actions ...chromedp.Action[chromedp.Void]) string {
	t.Helper()
	last := len(actions) - 1
	check(t, chromedp.Do(ctx, actions[:last]...))
	check(t, settled(ctx, actions[last]))
	check(t, settled(ctx, chromedp.WaitVisible(chromedp.CSS("h1"))))
	seen, err := chromedp.Run(ctx, chromedp.Evaluate[look](lookAt))
	check(t, err)
	if seen.Wide > 0 || seen.Headings != 1 || seen.Unnamed > 0 || seen.Language == "" {
		t.Errorf("%s: %+v", name, seen)
	}
	if dir := os.Getenv("HEADGATE_SCREENSHOTS"); dir != "" {
		picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
		check(t, err)
		check(t, os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644))
	}
	text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
	check(t, err)
	return text
}

// settled does what may be done twice: a page that gives way to the next one takes
// the nodes with it that were just found.
func settled(ctx context.Context, action chromedp.Action[chromedp.Void]) (err error) {
	for range 5 {
		if err = chromedp.Do(ctx, action); err == nil || !strings.Contains(err.Error(), "No node with given id") {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
	return err
}

// where reads something of the page.
func where(t *testing.T, ctx context.Context, what chromedp.Action[string]) string {
	t.Helper()
	s, err := chromedp.Run(ctx, what)
	check(t, err)
	return s
}

// A reporter with a browser and no script, on a desk and on a telephone: she is told
// what is missing, keeps what she typed, reports with a file, finds her page, is
// answered there, answers, and says how she wants to be named.
func TestAReporterNeedsABrowserAndNoScript(t *testing.T) {
	for name, width := range map[string]int64{"desk": 1200, "telephone": 360} {
		t.Run(name, func(t *testing.T) { reportByBrowser(t, name, newBrowser(t, width)) })
	}
}

func reportByBrowser(t *testing.T, name string, ctx context.Context) {
	s, _ := openServer(t)
	type css = chromedp.CSS
	const message, credit = `form:has(input[value=message]) textarea`, `form:has(input[value=credit]) input[name=text]`
	shows(t, ctx, name+"-form", chromedp.Navigate(s.URL()+"/report"))
	long := strings.Repeat("a-rule-without-any-space-in-it", 6)
	shows(t, ctx, name+"-refused",
		chromedp.SendKeys(css("#text"), "Nothing is detected after `ipc *`."), chromedp.SendKeys(css("#cwe"), "none of them"), chromedp.SendKeys(css("#title"), long),
		chromedp.Click(css("form button")), chromedp.WaitVisible(css(`a[href="#cwe"]`)))
	if says := where(t, ctx, chromedp.Text(css(".complaint"))); !strings.Contains(says, `"none of them": want CWE- and a number`) || strings.Contains(says, "invalid") {
		t.Errorf("she is told %q", says)
	}
	if typed := where(t, ctx, chromedp.Value(css("#text"))); !strings.Contains(typed, "ipc *") {
		t.Errorf("what she typed became %q", typed)
	}
	file := filepath.Join(t.TempDir(), "events.txt")
	check(t, os.WriteFile(file, []byte("ipc *\n"), 0o644))
	text := shows(t, ctx, name+"-page",
		chromedp.SetValue(css("#cwe"), "CWE-155"), chromedp.SetUploadFiles(css("#files"), []string{file}), chromedp.Click(css("form button")), chromedp.WaitVisible(css(message)))
	at := where(t, ctx, chromedp.Location())
	if !strings.Contains(text, "Your report is kept") || !strings.Contains(text, "events.txt") || !strings.Contains(at, "/report/") {
		t.Fatalf("at %s she reads %q", at, text)
	}
	reports, err := s.Store().ListReports(t.Context(), store.Engine("test"), store.ReportQuery{}, time.Now())
	check(t, err)
	answer, err := psirt.Draft(&psirt.ReportMessage{From: "operator:bob", Text: "Which *version*?\n\n    " + long}, time.Time{}, "")
	check(t, err)
	_, err = s.Store().CommitReport(t.Context(), store.Engine("test"), reports[0].ID, store.AnyRevision, []psirt.Fact{answer}, time.Now(), nil)
	check(t, err)
	at, _, _ = strings.Cut(at, "?")
	text = shows(t, ctx, name+"-answered", chromedp.Navigate(at), chromedp.SendKeys(css(message), "1.2 and later"), chromedp.Click(css(`form:has(input[value=message]) button`)), chromedp.WaitVisible(css("article.mine")))
	for _, want := range []string{"Which version?", "1.2 and later"} {
		if !strings.Contains(text, want) {
			t.Errorf("her page does not show %q: %s", want, text)
		}
	}
	shows(t, ctx, name+"-credited", chromedp.SendKeys(css(credit), "Ada L."), chromedp.Click(css(`form:has(input[value=credit]) button`)), chromedp.WaitVisible(css(`input[value="Ada L."]`)))
	text = shows(t, ctx, name+"-nobodys", chromedp.Navigate(s.URL()+"/report/"+strings.Repeat("A", 43)))
	if strings.Contains(text, "RP-") {
		t.Errorf("nobody's page: %s", text)
	}
}
