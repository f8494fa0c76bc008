// Package tuf makes, checks and reads the signed repository (TUF 1.0) that
// carries releases from vendors, and the plan from the server, to endpoints.
//
// It signs only with keys it is handed, keeps no clock (callers pass now), and
// never activates anything. go-tuf supplies the metadata's model and the
// client's rules; persistence is our own, because a half-written trust store
// must not exist. Its words: root, targets, snapshot, timestamp (TUF's top-level
// roles), rollout (the online role that signs the plan and nothing else), vendor
// role (one delegation per vendor, signed by the vendor's keys).
//
// All metadata travels as exact bytes, because signatures cover bytes.
//
// # Offline, with the operators' and vendors' keys (no network)
//
//	key, _ := tuf.NewKey()
//	tuf.SaveKey("ops1.key", key)             // ops1.key (0600) and ops1.key.pub
//	root, _ := tuf.NewRoot(tuf.RootSpec{Operators: pubs, Threshold: 2, Snapshot: s, Timestamp: t, Expires: …})
//	root, _ = tuf.Sign(root, ops1)           // each person signs in turn
//	root, _ = tuf.Sign(root, ops2)
//	targets, _ := tuf.NewTargets(rolloutPub, expires)
//	targets, _ = tuf.AddVendor(targets, tuf.Vendor{Name: "acme", Keys: pubs, Threshold: 2}, expires)
//	meta, _ := tuf.AddRelease("acme", nil, rel, 10, expires) // nil: the vendor's first
//	meta, _ = tuf.Sign(meta, vendor1)
//
// An edit of a signed document starts its next version without signatures; an
// edit of an unsigned draft keeps its version. So: take what is in force, edit as
// often as needed, then sign, then offer it to the server.
//
// # The server, with the three online keys (pure: bytes and now in, files out)
//
//	repo := tuf.Repo{State: state, Online: online, Life: tuf.DefaultLife}
//	change, err := repo.SetRoot(root, now)   // SetTargets, SetVendor, SetPlan, Renew
//	// one transaction: store change.Files under /tuf/, remember change.Latest
//	repo.State = repo.State.With(change)
//
// # An endpoint
//
//	c, err := tuf.Open(dir, enrolmentRoot, fetcher)
//	changed, err := c.Refresh(ctx, now)      // nothing new: one 304
//	plan, err := c.Plan()                    // the last verified plan, also offline
//	rel, err := c.Target(ctx, now, "acme/sensor", "1.2.3") // refuses on expired metadata
//	err = c.Download(ctx, rel, file)         // length and SHA-256 are checked
//
// Many simulated endpoints share one Client and poll by themselves with
// Fetcher.Fetch(ctx, "timestamp.json", tuf.MaxTimestamp, etag), comparing with
// Client.Timestamp.
package tuf
