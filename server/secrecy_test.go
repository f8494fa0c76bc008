package server

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/psirt"
	"github.com/headgate/headgate/store"
)

// marks are words that stand in the sealed case and nowhere else.
var marks = []string{"zebrafish", "okapi", "quagga", "tapir"}

// safeBuffer is a log that a running server writes.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// sealedWorld is a server with a case that only its admin may read.
type sealedWorld struct {
	*world
	log          *safeBuffer
	kase, report string
	marks        []string // marks and ids
}

func newSealedWorld(t *testing.T, change ...func(*Config)) *sealedWorld {
	log := &safeBuffer{}
	w := &sealedWorld{log: log}
	w.world = newWorld(t, append(change, func(c *Config) {
		c.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})...)
	ctx := t.Context()
	_, err := w.reports.AddTriager(ctx, connect.NewRequest(&headgatev1.AddTriagerRequest{Principal: "operator:admin"}))
	check(t, err)
	rep, _, err := w.store.AddReport(ctx, store.Engine("form"), psirt.ReportReceived{
		Source: psirt.FromForm, Title: "zebrafish overflow in the parser", Text: "an okapi in every rule", Product: product, Contact: "tapir@example.org",
	}, "", "", time.Now(), nil)
	check(t, err)
	w.report = store.ReportID(rep.ID)
	opened, err := w.cases.OpenCase(ctx, connect.NewRequest(&headgatev1.OpenCaseRequest{Title: "zebrafish", Reports: []string{w.report}, Restricted: true}))
	check(t, err)
	w.kase = opened.Msg.Case.Id
	w.add("vendor.aware", `{"vendor":"quagga"}`)
	w.add("party.added", `{"party":"quagga","as":"vendor"}`)
	w.add("embargo.proposed", `{"until":"`+time.Now().Add(24*time.Hour).UTC().Format(time.RFC3339)+`"}`)
	for range 3 {
		_, err := w.cases.GetCase(ctx, connect.NewRequest(&headgatev1.GetCaseRequest{Id: w.kase}))
		check(t, err)
	}
	w.marks = append([]string{w.kase, w.report}, marks...)
	return w
}

func (w *sealedWorld) add(kind, body string) {
	w.Helper()
	_, err := w.cases.AddFacts(w.Context(), connect.NewRequest(&headgatev1.AddFactsRequest{Id: w.kase, Revision: -1, Facts: []*headgatev1.NewFact{{Kind: kind, Body: body}}}))
	check(w, err)
}

// silent fails the test if text says anything of the sealed case.
func (w *sealedWorld) silent(where, text string, except ...string) {
	w.Helper()
	for _, m := range w.marks {
		if strings.Contains(text, m) && !strings.Contains(strings.Join(except, " "), m) {
			w.Errorf("%s says %q: %.300s", where, m, text)
		}
	}
}

// requests makes bodies for a procedure: empty, and with every text field set to
// each of the ids, those of messages within included.
func requestWith(in protoreflect.MessageDescriptor, id string, depth int) *dynamicpb.Message {
	m := dynamicpb.NewMessage(in)
	for i := range in.Fields().Len() {
		f := in.Fields().Get(i)
		var v protoreflect.Value
		switch f.Kind() {
		case protoreflect.StringKind:
			v = protoreflect.ValueOfString(id)
		case protoreflect.MessageKind:
			if depth == 0 || f.IsMap() {
				continue
			}
			v = protoreflect.ValueOfMessage(requestWith(f.Message(), id, depth-1))
		default:
			continue
		}
		switch {
		case f.IsList():
			m.Mutable(f).List().Append(v)
		case f.IsMap():
		default:
			m.Set(f, v)
		}
	}
	return m
}

// inputs finds each procedure's request.
func inputs(t *testing.T) map[string]protoreflect.MessageDescriptor {
	out := map[string]protoreflect.MessageDescriptor{}
	for _, p := range procedures(t) {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(p, "/"), "/", ".")))
		check(t, err)
		method, ok := d.(protoreflect.MethodDescriptor)
		if !ok {
			t.Fatalf("%s is no method", p)
		}
		if !method.IsStreamingServer() { // a watch names a rollout by its number
			out[p] = method.Input()
		}
	}
	return out
}

// Each procedure is called as each role that is not on the case's list, with the
// ids of the sealed case and its report in every text field, and again with ids
// that do not exist: the answers differ in nothing but the ids, and none holds
// anything of the case.
func TestSealedCaseIsNotThereForAnyRoleOnAnyProcedure(t *testing.T) {
	w := newSealedWorld(t)
	device := w.enrol(1)[0]
	roles := map[string]string{
		"operator": w.as("bob", headgatev1.Scope_SCOPE_OPERATOR, "").token,
		"vendor":   w.as("acme-bot", headgatev1.Scope_SCOPE_VENDOR, "acme").token,
		"tenant":   w.as("t1-bot", headgatev1.Scope_SCOPE_TENANT, "t1").token,
		"endpoint": device.token, "enrol": w.enrolToken, "nobody": "", "stranger": prefixAccess + strings.Repeat("A", 43),
	}
	// Who takes reports in, and who leads a case of her own, is a stranger to this one.
	triager, elsewhere := w.as("tria", headgatev1.Scope_SCOPE_OPERATOR, ""), w.as("carol", headgatev1.Scope_SCOPE_OPERATOR, "")
	_, err := w.reports.AddTriager(t.Context(), connect.NewRequest(&headgatev1.AddTriagerRequest{Principal: "operator:tria"}))
	check(t, err)
	_, err = elsewhere.cases.OpenCase(t.Context(), connect.NewRequest(&headgatev1.OpenCaseRequest{Title: "another"}))
	check(t, err)
	roles["triager"], roles["lead of another case"] = triager.token, elsewhere.token
	pairs := [][2]string{{w.kase, ids.Format("C", ids.Random())}, {w.report, ids.Format("RP", ids.Random())}}
	tried := 0
	for procedure, in := range inputs(t) {
		for role, token := range roles {
			c := newClients(w.base, token)
			_, empty := c.post(t, procedure, "{}")
			w.silent(procedure+" as "+role, empty)
			for _, pair := range pairs {
				status1, answer1 := c.post(t, procedure, bodyWith(t, in, pair[0]))
				status2, answer2 := c.post(t, procedure, bodyWith(t, in, pair[1]))
				tried++
				w.silent(procedure+" as "+role, answer1, pair[0]) // what the caller sends may come back
				a, b := same(answer1, pair[0]), same(answer2, pair[1])
				if status1 != status2 || status1 >= 400 && a != b {
					t.Errorf("%s as %s tells what is hidden from what is not there:\n%d %s\n%d %s", procedure, role, status1, a, status2, b)
				}
			}
		}
	}
	if tried < len(roles)*2*30 {
		t.Errorf("tried %d calls only", tried)
	}
	w.nothingElsewhere()
}

func bodyWith(t *testing.T, in protoreflect.MessageDescriptor, id string) string {
	b, err := protojson.Marshal(proto.Message(requestWith(in, id, 2)))
	check(t, err)
	return string(b)
}

// moving are the parts of an answer that differ from call to call.
var moving = regexp.MustCompile(`[0-9]{10,}|[0-9]+ (entries|bytes)`)

func same(answer, id string) string {
	return moving.ReplaceAllString(strings.ReplaceAll(answer, id, "ID"), "N")
}

// nothingElsewhere looks for the case where it has no place: pages, metrics, logs,
// the ledger, and every table but its own.
func (w *sealedWorld) nothingElsewhere() {
	w.Helper()
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/ledger/checkpoint", "/tuf/1.root.json", "/" + w.kase, "/" + w.report, "/cases/" + w.kase} {
		_, body := w.get(w, path)
		w.silent("GET "+path, body, path)
	}
	w.silent("the log", w.log.String())
	db, err := sql.Open("sqlite", filepath.Join(w.cfg.Data, "headgate.db"))
	check(w, err)
	defer db.Close()
	own := map[string]bool{"psirt_case": true, "psirt_report": true, "psirt_fact": true, "case_member": true, "opening": true}
	tables := textColumn(w, db, `SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name`)
	for _, table := range tables {
		if !own[table] {
			w.silent("table "+table, strings.Join(rowsAsText(w, db, table), "\n"))
		}
	}
	if len(tables) < 20 {
		w.Errorf("looked into %d tables only", len(tables))
	}
	if inside := strings.Join(rowsAsText(w, db, "psirt_fact"), "\n"); !strings.Contains(inside, "zebrafish") {
		w.Error("the facts do not hold what the other tables must not: does the search work?")
	}
}

func textColumn(t testing.TB, db *sql.DB, text string) (out []string) {
	rows, err := db.Query(text)
	check(t, err)
	defer rows.Close()
	for rows.Next() {
		var s string
		check(t, rows.Scan(&s))
		out = append(out, s)
	}
	check(t, rows.Err())
	return out
}

func rowsAsText(t testing.TB, db *sql.DB, table string) (out []string) {
	rows, err := db.Query(`SELECT * FROM "` + table + `"`)
	check(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	check(t, err)
	for rows.Next() {
		cells := make([]any, len(columns))
		for i := range cells {
			cells[i] = new(any)
		}
		check(t, rows.Scan(cells...))
		var line []string
		for _, c := range cells {
			if b, ok := (*c.(*any)).([]byte); ok {
				line = append(line, string(b))
				continue
			}
			line = append(line, fmt.Sprint(*c.(*any)))
		}
		out = append(out, strings.Join(line, "|"))
	}
	check(t, rows.Err())
	return out
}

// Who is not on the list finds nothing by a report of the very same words, by
// counting, or by the board; who is put on it reads what the label allows.
func TestSealedCaseIsNotFoundBySimilarityListsOrBoard(t *testing.T) {
	w := newSealedWorld(t)
	ctx := t.Context()
	bob := w.as("bob", headgatev1.Scope_SCOPE_OPERATOR, "")
	mine, err := bob.reports.AddReport(ctx, connect.NewRequest(&headgatev1.AddReportRequest{Report: &headgatev1.Report{Title: "zebrafish overflow in the parser", Text: "an okapi in every rule", Product: product}}))
	check(t, err)
	similar, err := bob.reports.ListSimilar(ctx, connect.NewRequest(&headgatev1.ListSimilarRequest{Id: mine.Msg.Report.Id}))
	check(t, err)
	reports, err := bob.reports.ListReports(ctx, connect.NewRequest(&headgatev1.ListReportsRequest{}))
	check(t, err)
	cases, err := bob.cases.ListCases(ctx, connect.NewRequest(&headgatev1.ListCasesRequest{Closed: true}))
	check(t, err)
	board, err := bob.cases.GetBoard(ctx, connect.NewRequest(&headgatev1.GetBoardRequest{All: true}))
	check(t, err)
	if len(similar.Msg.Similar)+len(cases.Msg.Cases) != 0 || len(reports.Msg.Reports) != 1 || len(board.Msg.Clocks) == 0 {
		t.Fatalf("bob finds %v, %v, %v, %v", similar.Msg, cases.Msg, board.Msg, reports.Msg)
	}
	for _, k := range board.Msg.Clocks {
		if k.Subject != mine.Msg.Report.Id {
			t.Errorf("bob's board shows %s", k)
		}
	}
	_, err = bob.reports.AddTriager(ctx, connect.NewRequest(&headgatev1.AddTriagerRequest{Principal: "operator:bob"}))
	wantCode(t, err, connect.CodePermissionDenied, "no triager")
	// A triager who is no member does not find it either: it was opened restricted.
	_, err = w.reports.AddTriager(ctx, connect.NewRequest(&headgatev1.AddTriagerRequest{Principal: "operator:bob"}))
	check(t, err)
	_, err = bob.reports.GetReport(ctx, connect.NewRequest(&headgatev1.GetReportRequest{Id: w.report}))
	wantCode(t, err, connect.CodeNotFound)
	// The admin's own search finds both.
	similar, err = w.reports.ListSimilar(ctx, connect.NewRequest(&headgatev1.ListSimilarRequest{Id: mine.Msg.Report.Id}))
	check(t, err)
	if len(similar.Msg.Similar) != 1 || similar.Msg.Similar[0].Case != w.kase {
		t.Errorf("the admin is shown %v", similar.Msg.Similar)
	}
	w.add("member.added", `{"principal":"operator:bob","role":"observer","up_to":"AMBER"}`)
	got, err := bob.cases.GetCase(ctx, connect.NewRequest(&headgatev1.GetCaseRequest{Id: w.kase}))
	check(t, err)
	if text := got.Msg.String(); strings.Contains(text, "zebrafish") || strings.Contains(text, "quagga") || len(got.Msg.Case.Facts) != 0 {
		t.Errorf("up to AMBER bob reads %s", text)
	}
	w.add("member.added", `{"principal":"operator:bob","role":"observer","up_to":"AMBER+STRICT"}`)
	got, err = bob.cases.GetCase(ctx, connect.NewRequest(&headgatev1.GetCaseRequest{Id: w.kase}))
	check(t, err)
	if got.Msg.Case.Title != "zebrafish" {
		t.Errorf("up to AMBER+STRICT bob reads %s", got.Msg)
	}
	w.nothingElsewhereBut(bob)
}

// nothingElsewhereBut checks the ledger as an operator sees it: that reads were
// recorded, and nothing of what was read.
func (w *sealedWorld) nothingElsewhereBut(c clients) {
	w.Helper()
	res, err := c.ledger.ListEntries(context.Background(), connect.NewRequest(&headgatev1.ListEntriesRequest{Limit: 1000}))
	check(w, err)
	sealed := 0
	for _, e := range res.Msg.Entries {
		if e.Kind == "sealed" || e.Kind == "case.fact" {
			sealed++
			w.silent("ledger entry", e.String())
			if e.Actor != "server" || e.Subject != "" || strings.Contains(e.Body, "bob") {
				w.Errorf("ledger entry %s", e)
			}
		}
	}
	if sealed < 10 {
		w.Errorf("the ledger holds %d commitments", sealed)
	}
}
