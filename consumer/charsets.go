package consumer

import (
	"regexp"
	"strings"
	"sync"
)

// isCharset reports whether name is a character set in IANA's registry
// (https://www.iana.org/assignments/character-sets) or an alias from Java, .NET or Python, in any spelling: "UTF-8",
// "utf8", "ISO_8859-1:1987". It includes the names of RFC 2045 for binary bodies.
func isCharset(name string) bool {
	letters := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return -1
	}, name)
	if charsetFamily.MatchString(letters) {
		return true
	}
	_, ok := charsets()[letters]
	return ok
}

// Most registered names start with the name of a family. A plain number is a code page of IBM.
var charsetFamily = regexp.MustCompile(`^(ansi|arabic|ascii|big5|ccsid|cyrillic|ebcdic|euc|gb|greek|hebrew|hp|ibm|iso|jis|koi|ks|` +
	`latin|mac|nats|shiftjis|sjis|ucs|unicode|us|utf|windows|xeuc|xmac|xwindows|x?cp[0-9]|cs[a-z]|[0-9]+$)`)

// charsets are the other names, and the transfer encodings that do not change the body.
var charsets = sync.OnceValue(func() map[string]struct{} {
	set := map[string]struct{}{"binary": {}, "7bit": {}, "8bit": {}}
	for _, name := range strings.Fields(otherCharsets) {
		set[name] = struct{}{}
	}
	return set
})

const otherCharsets = `
	adobestandardencoding adobesymbolencoding ami1251 amiga1251 armscii8 asmo449 asmo708 baltic bocu1 brf bs4730
	bsviewdata ca cesu8 chinese cn cngb cpar cpgr cphu cpis cuba cwi de dec decmcs din66003 dk dkus ds2089 e13b
	ecma114 ecma118 ecma128 ecmacyrillic elot928 es es2 extendedunixcodefixedwidthforjapanese
	extendedunixcodepackedformatforjapanese fi fr georgianacademy georgianps gost1976874 hkscs hu hz hzgb
	hzgb2312 iecp271 inis inis8 iniscyrillic invariant irv it johab jp jpocra jpocrb jpocrbadd jpocrhand
	jpocrhandadd js jusib1002 jusib1003mac jusib1003serb katakana korean kz1048 l1 l10 l2 l3 l4 l5 l6 l7 l8 l9
	lap mbcs microsoftpublishing mik mnem mnemonic ms1361 ms932 ms936 ms949 ms950 mskanji msz77953 naplps
	ncnc001081 nfz62010 nfz620101973 no no2 ns45511 ns45512 osdebcdicdf03irv osdebcdicdf041 osdebcdicdf0415
	pc8danishnorwegian pc8turkish pcmultilingual850euro pt pt154 pt2 ptcp154 r8 ref rk1048 roman8 ruscii scsu se
	se2 sen850200b sen850200c serbian strk10482002 stsev35888 t101g2 t61 t617bit t618bit tcvn tcvn5712 thai8
	tis620 tis6200 tis62025291 tscii u16 u32 u7 u8 uhc ujis uk unknown8bit venturainternational venturamath
	venturaus videotexsuppl viqr viscii x0201 x02017 x0208 x0212 yu
`
