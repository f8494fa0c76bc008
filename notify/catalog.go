package notify

import (
	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
	"golang.org/x/text/message/catalog"
)

// The keys of the fixed phrases. What a case says itself is in its Content.
const (
	keyHead      = "head"
	keySeverity  = "severity"
	keyConcerned = "concerned"
	keySteps     = "steps"
	keyNoSteps   = "nosteps"
	keyChecked   = "checked"
	keyAttest    = "attest"
	keyResources = "resources"
	keyMore      = "more"
	keyAdvisory  = "advisory"
	keyAnswer    = "answer"
	keyEnglish   = "english"
	keyMark      = "mark"
	keyPrivate   = "private"
	keyPublic    = "public"
)

// phrases are the fixed phrases in both languages.
var phrases = newPhrases()

func newPhrases() catalog.Catalog {
	b := catalog.NewBuilder(catalog.Fallback(language.English))
	set := func(key, en, ja string) {
		for tag, text := range map[language.Tag]string{language.English: en, language.Japanese: ja} {
			if err := b.SetString(tag, key, text); err != nil {
				panic("notify: phrase " + key + ": " + err.Error())
			}
		}
	}
	set(keyHead, "Notice %[1]s for %[2]s", "お知らせ %[1]s(%[2]s 様宛)")
	set(keySeverity, "Severity: %[1]s", "深刻度: %[1]s")
	set(keySteps, "What to do", "実施していただきたいこと")
	set(keyNoSteps, "You need not do anything.", "お客様側での作業は必要ありません。")
	set(keyChecked, "Checked by machine: %[1]s", "自動確認: %[1]s")
	set(keyAttest, "No machine can check this: say when it is done.", "自動では確認できません。完了したらお知らせください。")
	set(keyResources, "Your resources", "対象となるお客様のリソース")
	set(keyAdvisory, "The advisory: %[1]s", "公開情報: %[1]s")
	set(keyAnswer, "Acknowledge: headgate notice acknowledge %[1]s\nDone:        headgate notice attest %[1]s --step N\nRead again:  headgate notice show %[1]s",
		"受領の連絡: headgate notice acknowledge %[1]s\n完了の連絡: headgate notice attest %[1]s --step N\n再度読む:   headgate notice show %[1]s")
	set(keyEnglish, "", "(日本語版のない文は、英語で記載しています。)")
	set(keyMark, "Mark: %[1]s", "識別番号: %[1]s")
	set(keyPrivate, "%[1]s: for those of your organisation who must act, until it is published.", "%[1]s: 公開されるまで、貴組織内の対応に必要な方に限って共有してください。")
	set(keyPublic, "%[1]s: this may be passed on.", "%[1]s: 共有して差し支えありません。")
	for _, key := range []string{"update", "verify", "configure", "rotate", "peer", "none"} {
		set("action-"+key, actionEN[Action(key)], actionJA[Action(key)])
	}
	for p, t := range purposeText {
		set("kind-"+string(p), t[0], t[1])
		set("why-"+string(p), t[2], t[3])
	}
	for kind, t := range checkText {
		set("check-"+string(kind), t[0], t[1])
	}
	for s, t := range severityText {
		set("severity-"+s, t[0], t[1])
	}
	counted(b)
	return b
}

// counted are the phrases that a number changes.
func counted(b *catalog.Builder) {
	for _, p := range []struct {
		tag     language.Tag
		key     string
		one, to string
	}{
		{language.English, keyConcerned, "A vulnerability of %[2]s concerns one of your resources.", "A vulnerability of %[2]s concerns %[1]d of your resources."},
		{language.Japanese, keyConcerned, "", "%[2]s の脆弱性が、お客様のリソース %[1]d 件に影響します。"},
		{language.English, keyMore, "and one more", "and %[1]d more"},
		{language.Japanese, keyMore, "", "ほか %[1]d 件"},
	} {
		cases := []any{plural.Other, p.to}
		if p.one != "" {
			cases = append([]any{"=1", p.one}, cases...)
		}
		if err := b.Set(p.tag, p.key, plural.Selectf(1, "%d", cases...)); err != nil {
			panic("notify: phrase " + p.key + ": " + err.Error())
		}
	}
}

var actionEN = map[Action]string{
	Update: "Action required: update", Verify: "Action required: verify", Configure: "Action required: change a setting",
	Rotate: "Action required: rotate secrets", Peer: "Action required with a partner of yours", None: "For your information",
}

var actionJA = map[Action]string{
	Update: "要対応: 更新", Verify: "要対応: 確認", Configure: "要対応: 設定変更",
	Rotate: "要対応: 鍵などの更新", Peer: "要対応: 連携先での作業", None: "ご参考",
}

// checkText says in words what each kind of check looks at.
var checkText = map[CheckKind][2]string{
	CheckVersion: {"%[1]s runs version %[3]s or later", "%[1]s のバージョンが %[3]s 以降であること"},
	CheckHash:    {"the file %[2]q of %[1]s has the SHA-256 %[3]s", "%[1]s のファイル %[2]q の SHA-256 が %[3]s であること"},
	CheckSetting: {"the setting %[2]q of %[1]s is %[3]q", "%[1]s の設定 %[2]q が %[3]q であること"},
	CheckAge:     {"%[2]q of %[1]s was made anew at or after %[3]s", "%[1]s の %[2]q が %[3]s 以降に作り直されていること"},
	CheckCommand: {"the check %[2]q of %[1]s passes", "%[1]s の検査 %[2]q が成功すること"},
}

// purposeText are, for what is not the notice itself, its kind and its first
// sentence.
var purposeText = map[Purpose][4]string{
	ForReminder: {"Reminder", "再度のお知らせ", "Open steps: %[1]s. You were told of this before.", "未完了の手順: %[1]s。以前お知らせした件です。"},
	ForReopened: {"Opened again", "未完了に戻りました", "A check that had passed fails again. Open steps: %[1]s.", "一度取れた確認が取れなくなりました。未完了の手順: %[1]s。"},
	ForEscalation: {"Nobody has answered", "未回答のお知らせ", "Your first contact has not acknowledged this, so you are told. Open steps: %[1]s.",
		"第一連絡先から受領のご連絡がないため、お知らせしています。未完了の手順: %[1]s。"},
}

var severityText = map[string][2]string{
	"critical": {"critical", "緊急"}, "high": {"high", "重要"}, "medium": {"medium", "警告"}, "low": {"low", "注意"},
}

// pairs are sentences in two wordings that mean the same. Which one an edition
// has, says its mark; their order is for ever.
var pairs = []map[Language][2]string{
	{English: {"You receive this because the resources listed below match.", "You are told this because the resources listed below match."},
		Japanese: {"下記のリソースが該当したため、お送りしています。", "下記のリソースが該当するため、ご連絡しています。"}},
	{English: {"Please act on it as soon as you can.", "Please act on it as early as you can."},
		Japanese: {"できるだけ早くご対応ください。", "なるべく早くご対応ください。"}},
	{English: {"It stays open until every check has passed on every resource.", "It remains open until each check has passed on each resource."},
		Japanese: {"すべてのリソースで確認が取れるまで、このお知らせは完了になりません。", "全リソースで確認が取れるまで、このお知らせは完了しません。"}},
	{English: {"Should a check fail again later, it opens again.", "If a check fails again later, it opens again."},
		Japanese: {"後で確認が取れなくなった場合は、再び未完了に戻ります。", "その後確認が取れなくなると、再び未完了に戻ります。"}},
	{English: {"Tell us when you have seen this:", "Let us know when you have seen this:"},
		Japanese: {"ご覧になりましたらお知らせください。", "ご確認になりましたらお知らせください。"}},
	{English: {"Only you have been sent this text.", "This text was sent to you only."},
		Japanese: {"この文面はお客様だけにお送りしています。", "この文面はお客様のみにお送りしています。"}},
}
