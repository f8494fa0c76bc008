package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/ids"
	"github.com/headgate/headgate/notify"
	"github.com/headgate/headgate/psirt"
)

// Letterhead is what the server puts into every letter that it writes.
type Letterhead struct {
	MarkKey []byte // that recipients' marks are derived with
	Domain  string // right part of Message-IDs
}

// maxWave is how many tenants one transaction tells: other writers wait for it.
const maxWave = 5000

// WaveDraft asks for a wave.
type WaveDraft struct {
	Case     int64
	Rung     notify.Rung
	Content  notify.Content
	Audience notify.Audience
	Letterhead
}

// Wave is a wave that was queued.
type Wave struct {
	Case    int64
	Number  int64
	Rung    notify.Rung
	Notices int
	Hash    string // SHA-256 of what was told, hex: in the case's fact and in the ledger's opening
	More    bool   // others wait to be told: ask again
}

// NoticeID writes a notice's id.
func NoticeID(id int64) string { return ids.Format("N", id) }

// QueueWave tells those of the audience that were not told at this rung yet: it
// writes their notices and the messages to be sent, and the case's fact, in one
// transaction. A wave of nobody writes nothing. ErrState if the case's rung is not
// that far; ErrNotFound if the viewer may not read the case or the audience names
// a tenant that does not exist.
func (s *Store) QueueWave(ctx context.Context, v Viewer, d WaveDraft, now time.Time) (out Wave, err error) {
	if err := d.Content.Check(); err != nil {
		return out, err
	}
	err = s.inWrite(ctx, "tell the audience of case "+CaseID(d.Case), func(c conn) error {
		m, err := c.mayTell(ctx, v, d)
		if err != nil {
			return err
		}
		w := wave{conn: c, d: d, now: now, out: Wave{Case: d.Case, Rung: d.Rung}}
		if err := w.find(ctx); err != nil {
			return err
		}
		out = w.out
		if w.out.Notices == 0 {
			return nil
		}
		if err := w.write(ctx); err != nil {
			return err
		}
		out, err = w.record(ctx, v, m)
		return err
	})
	return out, err
}

// mayTell checks that v works on the case and that its rung lets tenants hear.
func (c conn) mayTell(ctx context.Context, v Viewer, d WaveDraft) (clearance, error) {
	m, err := c.mayCase(ctx, v, d.Case)
	if err != nil {
		return m, err
	}
	if !m.engine && (v.Scope != ScopeOperator || m.Role == psirt.Observer) {
		return m, fmt.Errorf("telling tenants takes a member of the case: %w", psirt.ErrForbidden)
	}
	if m.rung.At() < d.Rung.At() {
		return m, fmt.Errorf("the case is at rung %s, and the wave is for %s: %w", m.rung, d.Rung, ErrState)
	}
	return m, nil
}

// wave is a wave in the making.
type wave struct {
	conn
	d        WaveDraft
	now      time.Time
	out      Wave
	to       []notify.Recipient
	contacts map[int64]Contact
	tenants  map[string]int64
	have     map[int64]edition // of the case, by tenant
	said     map[string]string // SHA-256 of each notice's text, by its id
}

// edition is a notice that exists.
type edition struct{ id, number int64 }

// find says who must hear.
func (w *wave) find(ctx context.Context) (err error) {
	if w.contacts, w.tenants, err = w.conn.contacts(ctx); err != nil {
		return err
	}
	told := map[string]notify.Told{}
	w.have = map[int64]edition{}
	rows, err := w.rows(ctx, `SELECT n.id, n.edition, n.tenant, t.name, n.rung, n.told FROM notice n JOIN tenant t ON t.id = n.tenant WHERE n.case_id = $1`, w.d.Case)
	err = each(rows, err, func() error {
		var e edition
		var tenant int64
		var name string
		var t notify.Told
		var hash []byte
		if err := rows.Scan(&e.id, &e.number, &tenant, &name, &t.Rung, &hash); err != nil {
			return err
		}
		copy(t.Resources[:], hash)
		told[name], w.have[tenant] = t, e
		return nil
	})
	if err != nil {
		return err
	}
	w.to = notify.NextWave(w.d.Audience, w.d.Rung, told).Recipients
	for _, r := range w.to {
		if before := told[r.Tenant].Rung; before.At() > w.d.Rung.At() {
			return fmt.Errorf("tenant %s was told at rung %s, and is not told less at %s: %w", r.Tenant, before, w.d.Rung, ErrState)
		}
	}
	w.out.More = len(w.to) > maxWave
	w.to = w.to[:min(len(w.to), maxWave)]
	w.out.Notices = len(w.to)
	return w.row(ctx, `SELECT COALESCE(MAX(number), 0) + 1 FROM notice_wave WHERE case_id = $1`, w.d.Case).Scan(&w.out.Number)
}

var (
	listNotices = &list{head: `INSERT INTO notice (id, case_id, tenant, wave, edition, rung, language, mark, resources, told, created, edited, delivered, opened, acknowledged, acknowledged_by, reopenings, reopened, ended, state, closed, reasons, look) VALUES `,
		row:  `(?, $1, ?, $2, ?, $3, ?, ?, ?, ?, $4, $4, 0, 0, 0, '', 0, 0, FALSE, $5, FALSE, '[]', ?)`,
		tail: ` ON CONFLICT (case_id, tenant) DO UPDATE SET wave = excluded.wave, edition = excluded.edition, rung = excluded.rung, language = excluded.language, resources = excluded.resources, told = excluded.told, edited = excluded.edited, ended = FALSE, closed = FALSE, look = excluded.edited`, fixed: 5}
	listMessages   = &list{head: `INSERT INTO notice_message (id, notice, purpose, n, subject, opaque, body, created) VALUES `, row: `(?, ?, ?, ?, ?, ?, ?, $1)`, tail: ` ON CONFLICT (notice, purpose, n) DO NOTHING`, fixed: 1}
	listDeliveries = &list{head: `INSERT INTO delivery (id, message, notice, channel, message_id, state, created, due, attempts, doubtful, code, detail, holder) VALUES `,
		row: `(?, ?, ?, ?, ?, 'waiting', $1, $1, 0, 0, 0, '', '')`, tail: ` ON CONFLICT (message, channel) DO NOTHING`, fixed: 1}
)

// write renders and queues every recipient's edition.
func (w *wave) write(ctx context.Context) error {
	printers := map[notify.Language]*notify.Printer{}
	w.said = make(map[string]string, len(w.to))
	var notices, messages, deliveries []any
	for _, to := range w.to {
		tenant, ok := w.tenants[to.Tenant]
		if !ok {
			return fmt.Errorf("the audience names tenant %q: %w", to.Tenant, ErrNotFound)
		}
		k := w.contacts[tenant]
		if k.Language == "" {
			k.Language = notify.English
		}
		if printers[k.Language] == nil {
			printers[k.Language] = notify.NewPrinter(k.Language)
		}
		e := w.have[tenant]
		if e.id == 0 {
			e.id = ids.Random()
		}
		e.number++
		mark := notify.NewMark(w.d.MarkKey, w.d.Case, to.Tenant)
		msg := printers[k.Language].Render(notify.Letter{Notice: NoticeID(e.id), Rung: w.d.Rung, Content: w.d.Content, To: to, Language: k.Language, Mark: mark})
		resources, err := json.Marshal(to.Resources)
		if err != nil {
			return err
		}
		told := notify.HashResources(to.Resources)
		look := int64(0) // when its first delivery ends
		if len(k.channels()) == 0 {
			look = micros(w.now)
		}
		notices = append(notices, e.id, tenant, e.number, string(k.Language), mark.Code, string(resources), told[:], look)
		id := ids.Random()
		messages = append(messages, id, e.id, string(notify.ForNotice), e.number, msg.Subject, msg.Opaque, msg.Body)
		for _, channel := range k.channels() {
			deliveries = append(deliveries, newDelivery(id, e.id, channel, w.d.Domain)...)
		}
		w.said[NoticeID(e.id)] = sumOf(msg.Body)
	}
	if err := w.forgetSteps(ctx); err != nil {
		return err
	}
	at := micros(w.now)
	for _, l := range []struct {
		list  *list
		fixed []any
		rows  []any
	}{
		{listNotices, []any{w.d.Case, w.out.Number, string(w.d.Rung), at, string(notify.Queued)}, notices},
		{listMessages, []any{at}, messages},
		{listDeliveries, []any{at}, deliveries},
	} {
		byID(l.rows, strings.Count(l.list.row, "?"))
		if _, err := w.execList(ctx, l.list, l.fixed, l.rows); err != nil {
			return err
		}
	}
	return nil
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// byID sorts rows of n values by their ids, the first of them. Ids are random: those
// that are near each other share pages of the database.
func byID(rows []any, n int) {
	at := slices.Collect(slices.Chunk(slices.Clone(rows), n))
	slices.SortFunc(at, func(a, b []any) int { return cmp.Compare(a[0].(int64), b[0].(int64)) })
	copy(rows, slices.Concat(at...))
}

// newDelivery is a row of listDeliveries. The id that the receiver sees is drawn
// here, once for all attempts.
func newDelivery(message, notice int64, channel notify.Channel, domain string) []any {
	id := ids.Random()
	return []any{id, message, notice, string(channel), ids.Format("M", id) + "@" + domain}
}

// forgetSteps drops what is known of steps that the new content does not have: a
// check that passed says nothing of another one.
func (w *wave) forgetSteps(ctx context.Context) error {
	if w.out.Number == 1 {
		return nil
	}
	before, err := w.content(ctx, w.d.Case, w.out.Number-1)
	if err != nil {
		return err
	}
	was, err := json.Marshal(before.Steps)
	if err != nil {
		return err
	}
	is, err := json.Marshal(w.d.Content.Steps)
	if err != nil || string(was) == string(is) {
		return err
	}
	for _, to := range w.to {
		id := w.have[w.tenants[to.Tenant]].id
		if _, err := w.exec(ctx, `DELETE FROM notice_step WHERE notice = $1`, id); err != nil {
			return err
		}
		if _, err := w.exec(ctx, `DELETE FROM notice_result WHERE notice = $1`, id); err != nil {
			return err
		}
	}
	return nil
}

func (c conn) content(ctx context.Context, caseID, wave int64) (out notify.Content, err error) {
	var text string
	err = c.row(ctx, `SELECT content FROM notice_wave WHERE case_id = $1 AND number = $2`, caseID, wave).Scan(&text)
	if err != nil {
		return out, found(err)
	}
	return notify.ParseContent([]byte(text))
}

// record writes the wave's row, its opening in the ledger, and the case's fact.
func (w *wave) record(ctx context.Context, v Viewer, m clearance) (Wave, error) {
	content, err := json.Marshal(w.d.Content)
	if err != nil {
		return w.out, err
	}
	audience := w.d.Audience.Hash()
	if _, err := w.exec(ctx, `INSERT INTO notice_wave (case_id, number, rung, content, audience, at, actor, notices) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		w.d.Case, w.out.Number, string(w.d.Rung), string(content), audience[:], micros(w.now), v.Actor, w.out.Notices); err != nil {
		return w.out, err
	}
	opened := struct {
		Kind     string            `json:"kind"`
		Wave     int64             `json:"wave"`
		Rung     notify.Rung       `json:"rung"`
		By       string            `json:"by"`
		Content  json.RawMessage   `json:"content"`
		Audience string            `json:"audience"`
		Said     map[string]string `json:"said"` // SHA-256 of the text, by notice
	}{"notice.wave", w.out.Number, w.d.Rung, v.Actor, content, hex.EncodeToString(audience[:]), w.said}
	b, err := json.Marshal(opened)
	if err != nil {
		return w.out, err
	}
	sum := sha256.Sum256(b)
	w.out.Hash = hex.EncodeToString(sum[:])
	fact, err := psirt.Draft(&psirt.NoticeWave{Rung: w.d.Rung, Recipients: int64(w.out.Notices), Hash: w.out.Hash}, time.Time{}, psirt.AmberStrict)
	if err != nil {
		return w.out, err
	}
	// The fact is the server's: it counts what it has just written.
	engine := m
	engine.engine = true
	kase, all, err := w.extend(ctx, v, engine, w.d.Case, []psirt.Fact{fact}, w.now)
	if err != nil {
		return w.out, err
	}
	var p pending
	if err := w.keepCase(ctx, &p, w.d.Case, kase, all[m.revision:]); err != nil {
		return w.out, err
	}
	if err := p.sealed(ctx, w.conn, w.d.Case, opened); err != nil {
		return w.out, err
	}
	return w.out, p.write(ctx, w.conn, w.now)
}
