package psirt

// kinds are all kinds of facts. A new one is a struct with its check and its
// apply, and its line here; a kind that was ever written keeps its meaning.
var kinds = map[Kind]func() Body{
	"report.received":     func() Body { return &ReportReceived{} },
	"report.acknowledged": func() Body { return &ReportAcknowledged{} },
	"report.linked":       func() Body { return &ReportLinked{} },
	"report.message":      func() Body { return &ReportMessage{} },
	"report.credited":     func() Body { return &ReportCredited{} },
	"report.rewarded":     func() Body { return &ReportRewarded{} },
	"report.closed":       func() Body { return &ReportClosed{} },

	"case.opened":   func() Body { return &CaseOpened{} },
	"case.titled":   func() Body { return &CaseTitled{} },
	"case.sealed":   func() Body { return &CaseSealed{} },
	"case.unsealed": func() Body { return &CaseUnsealed{} },
	"case.reopened": func() Body { return &CaseReopened{} },
	"case.closed":   func() Body { return &CaseClosed{} },

	"member.added":      func() Body { return &MemberAdded{} },
	"member.removed":    func() Body { return &MemberRemoved{} },
	"owner.set":         func() Body { return &OwnerSet{} },
	"page.raised":       func() Body { return &PageRaised{} },
	"page.acknowledged": func() Body { return &PageAcknowledged{} },
	"page.escalated":    func() Body { return &PageEscalated{} },

	"triage.scored": func() Body { return &TriageScored{} },
	"triage.ssvc":   func() Body { return &TriageSSVC{} },
	"triage.cwe":    func() Body { return &TriageCWE{} },
	"kev.listed":    func() Body { return &KEVListed{} },
	"epss.scored":   func() Body { return &EPSSScored{} },

	"vendor.aware":    func() Body { return &VendorIsAware{} },
	"fix.ready":       func() Body { return &FixIsReady{} },
	"fix.bound":       func() Body { return &FixBound{} },
	"fix.opaque":      func() Body { return &FixOpaque{} },
	"fix.deployed":    func() Body { return &FixMeasured{} },
	"public":          func() Body { return &BecamePublic{} },
	"exploit.public":  func() Body { return &ExploitSeen{} },
	"attack.observed": func() Body { return &AttackSeen{} },

	"party.added":  func() Body { return &PartyAdded{} },
	"party.status": func() Body { return &PartyStatus{} },

	"embargo.proposed": func() Body { return &EmbargoProposed{} },
	"embargo.accepted": func() Body { return &EmbargoAccepted{} },
	"embargo.declined": func() Body { return &EmbargoDeclined{} },
	"embargo.revised":  func() Body { return &EmbargoRevised{} },
	"embargo.ended":    func() Body { return &EmbargoEnded{} },

	"variant.searched":  func() Body { return &VariantSearched{} },
	"rootcause.set":     func() Body { return &RootCauseSet{} },
	"control.added":     func() Body { return &ControlAdded{} },
	"evidence.attached": func() Body { return &EvidenceAttached{} },
	"rollout.bound":     func() Body { return &RolloutBound{} },
	"lane.asked":        func() Body { return &LaneAsked{} },

	"affected.set":       func() Body { return &AffectedSet{} },
	"affected.frozen":    func() Body { return &AffectedFrozen{} },
	"action.set":         func() Body { return &ActionSet{} },
	"rung.opened":        func() Body { return &RungOpened{} },
	"ladder.set":         func() Body { return &LadderSet{} },
	"ladder.override":    func() Body { return &LadderOverride{} },
	"notice.wave":        func() Body { return &NoticeWave{} },
	"record.published":   func() Body { return &RecordPublished{} },
	"authority.notified": func() Body { return &AuthorityNotified{} },
	"correction.added":   func() Body { return &CorrectionAdded{} },
	"correction.checked": func() Body { return &CorrectionChecked{} },
	"feedback.asked":     func() Body { return &FeedbackAsked{} },
	"feedback.received":  func() Body { return &FeedbackReceived{} },
}
