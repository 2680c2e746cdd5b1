"""Small templates for every filter, test, method, operator and statement. Data of make_chat_fixtures.py."""

VARIABLES = {
    "s": "Hello, World", "u": "Ünïcödé ß straße ΣΑΣ 東京 🙂", "sp": "  \t padded text \n ", "e": "", "q": "it's \"q\" \\ \n\t\u200b\u00a0é",
    "html": "<a href=\"x\">T&C's</a>", "lines": "one\ntwo\r\nthree\n\nfive", "n": 7, "z": 0, "neg": -13, "big": 9007199254740993,
    "f": 2.5, "f3": 3.0, "tiny": 1e-7, "huge": 1.5e300, "t": True, "fa": False, "no": None,
    "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "mix": [1, "a", None, 2.5, True, [1], {"k": 1}], "el": [], "nest": [[1, 2], [3, [4, 5]]],
    "d": {"b": 2, "a": 1, "C": 3}, "ed": {}, "deep": {"x": {"y": [10, {"z": "end"}]}, "items": "shadow", "k é": [1, {}, []]},
    "rows": [{"n": "x", "v": 2, "on": True}, {"n": "Y", "v": 1, "on": False}, {"n": "z", "v": 2}, {"n": "y", "v": None, "on": 1}],
    "nums": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "fl": [0.1, 0.2, 1e16, 123456789.125, -0.0, 1e-5, 0.0001],
}

EXPRESSIONS = r"""
1 + 2 * 3 - 4
(1 + 2) * 3
7 / 2
7 // 2
-7 // 2
7 % 3
-7 % 3
7 % -3
7.5 // 2
-7.5 % 2
7.5 % -2
2 ** 10
2 ** -1
2 ** 3 ** 2
-2 ** 2
2 ** 0.5
1 / 0
1 // 0
1 % 0
0 ** -1
1.0 / 0
10 ** 18
10 ** 18 * 9
+5
-n
- -n
-f
+t
-t
+'a'
-none
1 + 1.5
1 + true
1 + 'a'
'a' + 1
'a' + 'b'
'a' * 3
3 * 'a'
'a' * -1
'a' * 1.5
[1] * 2
[1] + [2]
(1,) + (2, 3)
[1] + (2,)
{} + {}
'a' ~ 1 ~ none ~ true ~ 1.5 ~ [1, 'x']
1 ~ 2 + 3
1 + 2 ~ 3
undefined_name ~ 'x'
undefined_name + 'x'
'x' + undefined_name
-undefined_name
undefined_name
undefined_name.x
undefined_name['x']
undefined_name()
undefined_name|upper
undefined_name|length
undefined_name|list
undefined_name|tojson
undefined_name == undefined_other
undefined_name == none
undefined_name < 1
undefined_name in [1]
1 in undefined_name
undefined_name and 1
undefined_name or 'dflt'
not undefined_name
s.nothing
s.nothing.more
d.nothing
d['nothing']
d.nothing.x
no.x
no.x.y
n.x
l[99]
l['x']
l[-1]
l[-4]
l[true]
l[1.0]
l.0
l.5
nest.1.1.0
nest[1][1][0]
deep.x.y[1].z
deep['x']['y'][0]
deep.items
deep['items']
deep.items()|list|length
deep['k é']
d[none]
d[[1]]
d[1]
s[0]
s[-1]
s[50]
s[1:4]
s[:3]
s[-3:]
s[::-1]
s[::2]
s[8:2:-2]
s[5:2]
s[::0]
s['a':]
u[1:9]
u[::-1]
u[-1]
u[-2:]
l[1:]
l[:-1]
l[::-1]
l[none:2]
l[:99]
l[-99:2]
l[5:]
(1, 2, 3)[1:]
range(10)[2:5]
range(10)[::-3]|list
d[1:]
no[1:]
n[0]
'abc'[1]
'abc'[1:2]
[1, 2][0]
{'a': 1}['a']
{'a': 1}.a
(1, 2)[1]
1 == 1.0
1 == true
0 == false
'a' == 'a'
'a' == "a"
'1' == 1
none == none
none == false
[1, 2] == [1, 2]
[1, 2] == (1, 2)
{'a': 1, 'b': 2} == {'b': 2, 'a': 1}
{'a': 1} == {'a': 2}
1 != 2
1 < 2 < 3
1 < 3 < 2
3 > 2 > 1 > 0
1 == 1 == 1
1 < 2 == true
'a' < 'b'
'B' < 'a'
'é' > 'z'
[1, 2] < [1, 3]
[1] < [1, 0]
(1, 'a') < (1, 'b')
1 < 'a'
none < 1
[1] < ['a']
{} < {}
true < 2
1.5 <= 1.5
big == 9007199254740992.0
big > 9007199254740992.0
1 in [1, 2]
1 in (2, 3)
1.0 in [1]
'a' in 'abc'
'' in 'abc'
'x' not in 'abc'
1 in 'abc'
'a' in d
'z' not in d
2 in d.values()
('a', 1) in d.items()
'a' in d.keys()
1 in n
[1] in [[1]]
[1] in d
3 in range(5)
5 in range(0, 10, 2)
4.0 in range(0, 10, 2)
1 and 2
0 and 2
1 or 2
0 or ''
'' or [] or none
not 1
not ''
not not 1
1 and not 0
not 1 == 2
1 if true else 2
1 if false else 2
1 if false
(1 if false) is defined
1 if 0 else 2 if 0 else 3
(1 if 0 else 2) if 1 else 3
'a' if n > 5 and not z else 'b'
true and false or true
true or false and false
1 + 2 == 3 and 'x'
[1, 'a', none, true, 1.5, [], {}, (), (1,), {'k': 'v'}]
{'a': 1, 'b': [1, 2], 3: 4, none: 5, 1.5: 6, true: 7}
{1: 'a', 1.0: 'b', true: 'c'}
{(1, 2): 'x'}[(1, 2)]
{[1]: 2}
{}
[]
()
(1)
(1,)
1, 2
1,
[1, 2,]
{'a': 1,}
"a" 'b' "c"
'\x41\u00e9\U0001F642\101\n\t\\\'\"\q'
"\é"
'it''s'
"tab\there"
0x1F
0b101
0o17
1_000
1e3
1.5e-3
1E2
00
1.
.5
9223372036854775807
fl
0.1 + 0.2
1e16
1e15
123456789012345680.0
1e22
1.0
-0.0
1e-4
1e-5
1.5e300
1e308 * 10
-1e308 * 10
(1e308 * 10) - (1e308 * 10)
huge
tiny
big
t
no
q
mix
u
[q]
[u]
[s, "it's", 'say "x"', "both ' and \""]
d
ed
nest
deep
d.items()
d.keys()
d.values()
range(5)
range(1, 5)
range(1, 10, 3)
range(5)|list
range(5, 0, -2)|list
range(0)|list
range(1.5)
range('a')
range()
range(1, 2, 3, 4)
range(0, 10, 0)
range(100001)
range(10 ** 18)
range(100000)|length
range(5) == range(0, 5)
range(3)[1]
range(3)[5]
dict(a=1, b=2)
dict({'a': 1}, b=2)
dict([('a', 1), ['b', 2]])
dict([1])
dict(1)
namespace(a=1).a
namespace(a=1)
namespace(_a=1)
namespace({'x': 1}).x
namespace().missing
namespace(a=1)['a']
raise_exception('stop')
raise_exception()
strftime_now('%Y-%m-%d %H:%M:%S')
strftime_now('%d %b %Y, %A %B %-d %e %j %p %I %y %% %U %W %w %u %V %G')
strftime_now('%c|%x|%X|%D|%F|%T|%R|%n|%t|%a|%h|%C|%r|%f|%z|%Z|')
strftime_now(1)
loop
caller
"""

FILTERS = r"""
-5|abs
-2.5|abs
true|abs
'a'|abs
s|upper
s|lower
u|upper
u|lower
u|title
u|capitalize
s|title
'hello-world (foo) [bar] {x} <y> don\'t ẞ'|title
'HELLO wORLD'|capitalize
5|upper
none|upper
[1]|upper
sp|trim
'xxaxx'|trim('x')
'xyaxy'|trim(chars='yx')
5|trim
s|length
u|length
l|length
d|length
5|length
none|length
l|count
range(4)|length
d.items()|length
l|map('string')|length
l|join
l|join(', ')
l|join(d='-')
ls|join(', ')
mix|join('|')
rows|join(',', attribute='n')
rows|map(attribute='n')|join(',')
s|join('.')
d|join(',')
5|join
none|join
[[1, 2], [3]]|map('join', '-')|list
l|first
l|last
el|first
el|last
el|first is defined
s|first
s|last
u|last
d|first
d|last
d.items()|first
d.values()|last
range(3)|last
l|map('string')|first
l|map('string')|last
5|first
no|default('x')
undefined_name|default('x')
undefined_name|default
undefined_name|d('y')
e|default('x')
e|default('x', true)
e|default('x', boolean=true)
z|d(1, true)
undefined_name.x|default('x')
d.nothing|default('x')
s|replace('l', 'L')
s|replace('l', 'L', 1)
s|replace('', '-')
s|replace('', '-', 3)
s|replace('zzz', '')
u|replace('', '.')
5|replace('5', '6')
s|replace(old='o', new='0', count=1)
s|replace('o')
s|replace('o', 1)
s|list
u|list
d|list
5|list
none|list
(1, 2)|list
l|sort
l|sort(reverse=true)
l|sort(true)
ls|sort
ls|sort(case_sensitive=true)
ls|sort(reverse=true)
rows|sort(attribute='v')
rows[:3]|sort(attribute='v')
rows[:3]|sort(attribute='v,n')
rows|sort(attribute='n')|map(attribute='n')|list
rows[:3]|sort(attribute='v', reverse=true)|map(attribute='n')|list
mix|sort
d|sort
s|sort
[[2, 'a'], [1, 'b']]|sort
[[2, 'a'], [1, 'b']]|sort(attribute=1)
[true, 2, 0, 1.5]|sort
[none, none]|sort
5|sort
l|unique|list
[1, 1.0, true, 2]|unique|list
['a', 'A', 'b', 'a']|unique|list
['a', 'A', 'b', 'a']|unique(true)|list
rows|unique(attribute='v')|map(attribute='n')|list
[[1], [1]]|unique|list
[(1, 2), (1, 2)]|unique|list
l|reverse|list
s|reverse
u|reverse
d|reverse|list
range(3)|reverse|list
l|map('string')|reverse
l|reverse|length
5|reverse
l|sum
fl|sum
rows[:3]|sum(attribute='v')
l|sum(start=10)
[[1], [2]]|sum(start=[])
ls|sum
['a']|sum(start='')
el|sum
l|min
l|max
ls|min
ls|max
ls|max(case_sensitive=true)
el|min
el|max is defined
rows[:3]|max(attribute='v')
rows|max(attribute='v')
['a', 1]|max
2.5|round
3.5|round
-2.5|round
2.675|round(2)
2.345|round(2, 'floor')
2.341|round(2, 'ceil')
1234|round
1234|round(-2)
1250|round(-2)
1350|round(-2)
1234.5|round(-2)
-1250|round(-2)
2.5|round(1, 'nope')
'a'|round
2.5|round|int
7|round(1, 'ceil')
0.5|round(method='ceil')
'42'|int
'42.9'|int
' 42 '|int
'x'|int
'x'|int(default=-1)
'x'|int(-1)
'0x1A'|int(base=16)
'1A'|int(0, 16)
'101'|int(base=2)
'0b101'|int(base=0)
'017'|int(base=0)
'1_000'|int
'1__0'|int
'-7'|int
'+7'|int
'- 7'|int
''|int
3.9|int
-3.9|int
true|int
none|int
none|int('d')
[]|int
'1e3'|int
'inf'|int
'nan'|int
(1e308 * 10)|int
'3.5'|float
'x'|float
'x'|float(1.5)
'1e3'|float
' -.5 '|float
'1_0.5'|float
'inf'|float
'-Infinity'|float
'nan'|float
'5.'|float
'.'|float
5|float
true|float
none|float
none|float(2)
undefined_name|int
undefined_name|float
5|string
none|string
true|string
1.5|string
[1, 'a']|string
s|string
s|safe
html|e
html|escape
html|safe|e
html|e|e
html|forceescape
html|safe|forceescape
5|e
none|e
'<'|safe + '<'
'<' + '<'|safe
'<' ~ '<'|safe
['<'|safe]
('<'|safe) * 2
'<%s>'|safe % '<b>'
('<%s>'|safe)|format('<b>')
('<{}>'|safe).format('<b>')
('<b>'|safe).upper()
('<b>'|safe).replace('b', '<')
(', '|safe).join(['<a>', '<b>'|safe])
('a b'|safe).split()
('<b>'|safe)[0]
('<b>'|safe)[0:1]
('<b>'|safe)|upper
('<b>'|safe)|tojson
('<b>'|safe) == '<b>'
('<b>'|safe) is escaped
'<b>' is escaped
lines|indent
lines|indent(2)
lines|indent(2, true)
lines|indent(2, first=true, blank=true)
lines|indent('> ')
lines|indent(width='> ', blank=true)
''|indent
'a'|indent(first=true)
'a\n'|indent
5|indent
d|dictsort
d|dictsort(true)
d|dictsort(case_sensitive=true)
d|dictsort(by='value')
d|dictsort(reverse=true)
d|dictsort(by='x')
{'a': 'B', 'b': 'a'}|dictsort(by='value')
{1: 2, 'a': 3}|dictsort
l|dictsort
d|items|list
undefined_name|items|list
l|items|list
d|tojson
deep|tojson
mix|tojson
mix|tojson(indent=2)
deep|tojson(indent=4)
deep|tojson(indent='--')
deep|tojson(indent=0)
[]|tojson(indent=2)
{}|tojson(indent=2)
[[], {}]|tojson(indent=2)
d|tojson(separators=(',', ':'))
d|tojson(sort_keys=true)
{'b': 1, 'a': 2, 'C': 3}|tojson(sort_keys=true, indent=1)
{1: 2, 'a': 3}|tojson(sort_keys=true)
u|tojson
u|tojson(ensure_ascii=true)
q|tojson
q|tojson(true)
html|tojson
'\x7f\x00\x1f/'|tojson
'\x7f\x00\x1f/'|tojson(ensure_ascii=true)
{1: 2, none: 3, true: 4, 1.5: 5}|tojson
{(1, 2): 3}|tojson
(1, 2)|tojson
fl|tojson
(1e308 * 10)|tojson
none|tojson
true|tojson
s|tojson
range(3)|tojson
namespace(a=1)|tojson
l|map('string')|tojson
l|map('string')|list|tojson
d.items()|tojson
d.items()|list|tojson
l|map('string')|list
ls|map('upper')|list
ls|map('replace', 'a', 'x')|list
rows|map(attribute='n')|list
rows|map(attribute='on')|list
rows|map(attribute='on', default='-')|list
rows|map(attribute='v', default=0)|list
rows|map(attribute='n.0')|list
nest|map(attribute=1)|list
nest|map(attribute='1')|list
nest|map('first')|list
nest|map('length')|sum
l|map|list
l|map('nope')|list
l|map(attribute='x', foo=1)|list
none|map('upper')|list
5|map('upper')|list
l|map('nope')|first is defined
l|select|list
mix|select|list
nums|select('odd')|list
nums|select('even')|list
nums|select('divisibleby', 3)|list
nums|select('gt', 8)|list
nums|select('in', [1, 5, 99])|list
nums|select('>=', 9)|list
nums|select('nope')|list
nums|reject('odd')|list
mix|reject|list
mix|select('string')|list
mix|select('none')|list
rows|selectattr('on')|map(attribute='n')|list
rows|selectattr('on', 'defined')|map(attribute='n')|list
rows|selectattr('v', 'equalto', 2)|map(attribute='n')|list
rows|selectattr('v', '==', 2)|list|length
rows|selectattr('v', 'none')|list
rows|rejectattr('on')|map(attribute='n')|list
rows|rejectattr('n', 'in', ['x', 'y'])|map(attribute='n')|list
rows|selectattr('on', 'true')|list|length
rows|selectattr|list
nums|batch(3)|list
nums|batch(4, 0)|list
nums|batch(linecount=6, fill_with='x')|list
nums|slice(3)|list
nums|slice(4, 'x')|list
nums|slice(0)|list
rows|groupby('on')|list|length
rows[:3]|groupby('v')
rows[:3]|groupby('v')|map(attribute='grouper')|list
rows|groupby('n')|map(attribute='list')|map('length')|list
rows|groupby('n', case_sensitive=true)|map('first')|list
rows|groupby('on', default=false)|map('first')|list
d|attr('items')
d|attr('b')
d|attr('nope') is defined
namespace(a=1)|attr('a')
s|center(20)
s|center(21)
'ab'|center(5)
'abc'|center(6)
'abc def ghi jkl'|truncate(9)
'abc def ghi jkl'|truncate(9, true)
'abc def ghi jkl'|truncate(9, false, '…', 0)
'abc def'|truncate(2)
u|truncate(10, true, leeway=0)
5|truncate
'one two, three_3 é'|wordcount
'a b&c/d?é~'|urlencode
{'a b': 'c/d', 'e': 1}|urlencode
[('a', 1), ('b', '&')]|urlencode
5|urlencode
'%s is %d'|format('x', 5)
'%(a)s'|format(a=1)
'%s'|format(1, a=2)
s|nope
(s|nope if false else 'ok')
s|upper|lower|title
s|upper()
s|upper(1)
s|replace('a', 'b', 'c', 'd')
s|default(x=1)
s|trim(chars='H')|length
"""

METHODS = r"""
s.upper()
s.lower()
s.title()
s.capitalize()
s.swapcase()
s.casefold()
u.upper()
u.lower()
u.title()
u.capitalize()
u.swapcase()
u.casefold()
'ΑΣ ΑΣΑ Σ'.lower()
'ǆ ǅ ŉ ﬁ İ ı'.title()
'ǆ ǅ ŉ ﬁ İ ı'.upper()
'ǆ ǅ ŉ ﬁ İ ı'.lower()
"they're bill's".title()
sp.strip()
sp.lstrip()
sp.rstrip()
'xxaxx'.strip('x')
'xxaxx'.lstrip('x')
'xxaxx'.rstrip('x')
'xyzay'.strip('yx')
'aaa'.strip('a')
'a'.strip(none)
'a'.strip(1)
'\u3000a\u2003'.strip()
s.split()
s.split(',')
s.split('l')
s.split('l', 1)
s.split('zz')
s.split('')
s.split(none, 1)
s.split(sep='o', maxsplit=1)
sp.split()
sp.split(none, 1)
' a  b c '.split(' ')
' a b  c '.split(none, 1)
' a b  c '.rsplit(none, 1)
'a,b,c'.rsplit(',', 1)
'a,b,c'.rsplit(',')
'aXXbXXXc'.rsplit('XX', 1)
'aXXbXXXc'.split('XX')
e.split()
e.split(',')
u.split()
lines.splitlines()
lines.splitlines(true)
'a\x0bb\x1cc\u2028d\x85e'.splitlines()
''.splitlines()
s.startswith('Hello')
s.startswith('World')
s.startswith(('X', 'H'))
s.startswith(['H'])
s.startswith('ello', 1)
s.startswith('ello', 1, 3)
s.startswith('', 99)
s.endswith('World')
s.endswith(('x', 'd'))
s.endswith('o', 0, 5)
s.startswith(1)
s.replace('l', 'L')
s.replace('l', 'L', 1)
s.replace('', '-')
s.replace('l')
s.replace(1, 2)
s.find('o')
s.find('o', 5)
s.find('zz')
s.find('')
s.find('', 99)
s.rfind('o')
s.rfind('o', 0, 5)
s.index('o')
s.index('zz')
s.rindex('o')
u.find('東')
u.rfind('🙂')
u.find('京', -5)
s.count('l')
s.count('')
s.count('o', 5)
u.count('ß')
', '.join(ls)
''.join(s)
', '.join(l)
'-'.join(d)
'-'.join(ls|map('upper'))
s.partition(', ')
s.partition('zz')
s.rpartition('o')
s.rpartition('zz')
s.partition('')
s.removeprefix('Hello')
s.removeprefix('x')
s.removesuffix('World')
s.center(20, '*')
s.ljust(15, '.')
s.rjust(15, '.')
s.rjust(15, 'ab')
'é'.center(4, '→')
'42'.zfill(5)
'-42'.zfill(5)
'+4'.zfill(1)
'a\tb\tc'.expandtabs(4)
'a\tbc\n\td'.expandtabs()
'abc'.isalpha()
'ab1'.isalpha()
''.isalpha()
'é東'.isalpha()
'123'.isdigit()
'²'.isdigit()
'½'.isnumeric()
'٣'.isdecimal()
'ab1'.isalnum()
'ab '.isalnum()
' \t\n'.isspace()
''.isspace()
'ABC'.isupper()
'ABc'.isupper()
'A1'.isupper()
'1'.isupper()
'abc'.islower()
'Abc Def'.istitle()
'ABC'.istitle()
'abc'.isascii()
'é'.isascii()
'abc_1'.isidentifier()
'1a'.isidentifier()
'a\n'.isprintable()
''.isprintable()
'{} and {}'.format(1, 'b')
'{0} {1} {0}'.format('a', 'b')
'{a} {b[0]} {c.x}'.format(a=1, b=[2], c={'x': 3})
'{!r} {!s}'.format('a', 'b')
'{:>5}|{:<5}|{:^5}|{:*^7}'.format('a', 'b', 'c', 'd')
'{:05d} {:+d} {:x} {:X} {:#x} {:b} {:o} {:,}'.format(42, 42, 255, 255, 255, 5, 8, 1234567)
'{:.2f} {:8.3f} {:e} {:g} {:%} {:.3}'.format(3.14159, 2.5, 12345.678, 0.0001, 0.25, 1234.5)
'{:{}}|{:>{w}}'.format('a', 5, 'b', w=4)
'{{}} {}'.format(1)
'{'.format(1)
'}'.format(1)
'{} {0}'.format(1)
'{}'.format()
'{x}'.format(y=1)
'{:d}'.format('a')
'{:s}'.format(1)
'{} {} {}'.format(none, true, [1])
'{:5}|{:5}'.format(1, 'a')
'{:_} {:,.2f}'.format(1234567, 1234567.891)
'{a}'.format_map({'a': 1})
'%s %d %i %5.1f|%-5s|%05d|%+d|%x|%X|%o|%e|%g|%c|%%|%r' % ('a', 1, 2.9, 3.14159, 'b', 42, 7, 255, 255, 8, 12345.678, 0.0001, 'c', 'r')
'%s' % 5
'%s' % [1, 2]
'%s %s' % (1,)
'%s' % (1, 2)
'%d' % 'a'
'%(a)s %(b)d' % {'a': 1, 'b': 2}
'%(z)s' % {'a': 1}
'abc' % [1]
'abc' % 1
'%s' % none
'%5s|%-5s|%.2s' % ('a', 'b', 'cde')
'%*d' % (5, 42)
'%q' % 1
'%' % 1
'100%%' % ()
d.get('a')
d.get('z')
d.get('z', 5)
d.get('z', default=5)
d.get()
d.get([1])
d.keys()|list
d.values()|list
d.items()|list
d.copy() == d
d.pop('a')
d.pop
d.update({'x': 1})
d.clear()
d.setdefault('q', 1)
d.popitem()
d.update is defined
l.append(4)
l.append is defined
l.append
l.pop()
l.insert(0, 1)
l.sort()
l.reverse()
l.extend([1])
l.remove(1)
l.clear()
l.index(1)
l.index(99)
l.index(1, 2)
l.count(1)
l.copy()
(1, 2, 1).count(1)
(1, 2, 1).index(2)
(1, 2).append
s.__class__
s.__class__ is defined
d.__class__.__mro__
''.__len__()
l.__len__
s.nope()
n.nope()
s.encode is string
[].append('x')
s.split(',')[1].strip()
s.split(', ')|last|lower
'a'.join
d.items
s.upper
"""

TESTS = r"""
s is defined
undefined_name is defined
undefined_name is undefined
undefined_name is not defined
no is defined
d.zz is defined
d.a is defined
no is none
z is none
no is not none
s is string
n is string
(s|safe) is string
n is number
f is number
t is number
s is number
n is integer
t is integer
f is integer
f is float
n is float
t is boolean
n is boolean
t is true
n is true
1 is true
fa is false
z is false
d is mapping
l is mapping
namespace() is mapping
l is sequence
s is sequence
d is sequence
n is sequence
no is sequence
undefined_name is sequence
range(3) is sequence
d.items() is sequence
(1,) is sequence
l|map('string') is sequence
l is iterable
s is iterable
d is iterable
n is iterable
undefined_name is iterable
l|map('string') is iterable
d.keys() is iterable
namespace() is iterable
n is odd
n is even
z is even
f3 is odd
f is odd
s is odd
n is divisibleby 7
n is divisibleby(2)
n is divisibleby 0
n is eq 7
n is equalto 7
n is ne 7
n is lt 8
n is lessthan 8
n is gt 8
n is greaterthan 6
n is ge 7
n is le 6
n is lt 'a'
n is in [7]
n is not in [7]
'a' is in d
n is in(l)
s is lower
'abc' is lower
'ABC' is upper
5 is upper
no is sameas none
t is sameas true
1 is sameas true
s is sameas s
l is sameas l
range is callable
s.upper is callable
s is callable
'upper' is filter
'nope' is filter
'odd' is test
'nope' is test
n is nope
(n is nope if false else 'ok')
n is defined(1)
n is eq
n is eq 1, 2
not n is odd
n is odd and n is number
n is odd or z is odd
n is defined if true else false
n is string or n is number
s is not string and true
n is odd is even
(n is odd) is true
n is divisibleby 7 == true
d.a is number
l[0] is number
s.upper() is string
l|length is eq 3
l|first is number
1 is in [1, 2] and 3 is in [3]
n is divisibleby n.z or true
"""

STATEMENTS = [
    "{% if n %}a{% elif z %}b{% else %}c{% endif %}", "{% if z %}a{% elif n %}b{% else %}c{% endif %}",
    "{% if z %}a{% elif e %}b{% else %}c{% endif %}", "{% if z %}a{% endif %}|", "{% if el %}a{% else %}b{% endif %}",
    "{% if n: %}x{% endif %}", "{% if %}x{% endif %}", "{% if n %}x", "{% if n %}x{% endfor %}", "{% endif %}",
    "{% if n, z %}x{% endif %}", "{% if n if 1 else 2 %}x{% endif %}",
    "{% for x in l %}{{ x }},{% endfor %}", "{% for x in el %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in l %}{{ loop.index }}/{{ loop.length }}:{{ x }}{{ ' ' if not loop.last }}{% endfor %}",
    "{% for x in l %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }};{% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }};{% endfor %}",
    "{% for x in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in [1, 1, 2, 2, 1] %}{{ loop.changed(x) }}{% endfor %}",
    "{% for x in l %}{{ loop.cycle() }}{% endfor %}", "{% for x in l %}{{ loop.nope }}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{{ d[k] }}{% endfor %}",
    "{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|dictsort %}{{ k }}={{ v }};{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "{% for a, b in ['xy'] %}{{ a }}-{{ b }}{% endfor %}", "{% for a, b in l %}{{ a }}{% endfor %}", "{% for a, in [[1]] %}{{ a }}{% endfor %}",
    "{% for c in s %}{{ c }}.{% endfor %}", "{% for c in u %}{{ c }}.{% endfor %}", "{% for x in n %}{{ x }}{% endfor %}",
    "{% for x in no %}{{ x }}{% endfor %}", "{% for x in undefined_name %}{{ x }}{% else %}u{% endfor %}",
    "{% for x in range(3) %}{{ x }}{% endfor %}", "{% for x in range(3)|reverse %}{{ x }}{{ loop.last }}{% endfor %}",
    "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}", "{% for x in (1, 2) + (3,) %}{{ x }}{% endfor %}",
    "{% for x in nums if x is odd %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% endfor %}",
    "{% for x in nums if x is odd %}{{ x }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for x in nums if x > 99 %}{{ x }}{% else %}none{% endfor %}", "{% for x in nums if x > n %}{{ x }}{% endfor %}",
    "{% for x in nums if x is odd %}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}",
    "{% set ns = namespace(stop=false) %}{% for x in nums if not ns.stop %}{{ x }}{% if x == 3 %}{% set ns.stop = true %}{% endif %}{% endfor %}",
    "{% set ns = namespace(stop=false) %}{% for x in nums if not ns.stop %}{{ x }}{{ loop.last }}{% if x == 3 %}{% set ns.stop = true %}{% endif %}{% endfor %}",
    "{% for x in l %}{% for y in l %}{{ x }}{{ y }}{{ loop.index }} {% endfor %}{{ loop.index }};{% endfor %}",
    "{% for x in l %}{% set outer = loop %}{% for y in l %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for x in nums %}{% if x == 3 %}{% continue %}{% endif %}{% if x == 6 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% break %}{% else %}e{% endfor %}", "{% for x in l %}{% continue %}{% else %}e{% endfor %}",
    "{% for x in l %}{% if loop.first %}{% continue %}{% endif %}{{ x }}{% else %}e{% endfor %}",
    "{% for x in l %}{{ x }}{% if loop.last %}{% break %}{% endif %}{% else %}e{% endfor %}",
    "{% break %}", "{% continue %}", "{% if n %}{% break %}{% endif %}", "{% for x in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "{% for x in l %}{% for y in l %}{% break %}{% endfor %}{{ x }}{% endfor %}",
    "{% for x in l %}{% for y in el %}{% else %}{% break %}{% endfor %}{{ x }}{% endfor %}",
    "{% for x in l %}{% set z %}{{ x }}{% break %}{% endset %}{% endfor %}|", "{% for x in l %}{% filter upper %}a{% continue %}{% endfilter %}{% endfor %}|",
    "{% for x in l %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    "{% for x in nest recursive %}{% if x is number %}{{ x }}@{{ loop.depth }}{% else %}[{{ loop(x) }}]{% endif %}{% endfor %}",
    "{% for x in l %}{{ loop(l) }}{% endfor %}", "{% for x in [[1]] recursive %}{{ loop() }}{% endfor %}",
    "{% for x in [1, [2]] recursive %}{{ x if x is number else loop(x) }}{% else %}none{% endfor %}",
    "{% for loop in l %}{% endfor %}", "{% for x in l %}{% set loop = 1 %}{% endfor %}", "{% set loop = 1 %}{{ loop }}",
    "{% for x.y in l %}{% endfor %}", "{% for 1 in l %}{% endfor %}",
    "{% for x in l %}{{ x }}", "{% for x l %}{% endfor %}", "{% for x in %}{% endfor %}", "{% for in l %}{% endfor %}",
    "{% for x in l if x > 1 recursive %}{{ x }}{% endfor %}", "{% for x in l if (x > 1) == true %}{{ x }}{% endfor %}",
    "{% for x in (l if n else el) %}{{ x }}{% endfor %}", "{% for x in l|sort %}{{ x }}{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{{ loop.index }}{% endif %}{% endfor %}{{ x }}", "{{ x }}{% for x in l %}{% endfor %}{{ x }}",
    "{% set a = 1 %}{{ a }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = [1, 2, 3] %}", "{% set (a, b) = 1, 2 %}{{ a + b }}",
    "{% set a = 1, 2 %}{{ a }}", "{% set a, = [1] %}", "{% set a = b = 1 %}", "{% set 1 = 2 %}", "{% set a.b = 1 %}", "{% set d.b = 1 %}",
    "{% set d['b'] = 1 %}", "{% set none = 1 %}", "{% set true = 1 %}", "{% set a %}", "{% set a = %}", "{% set = 1 %}", "{% set a b %}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}", "{% set ns = namespace(a=1) %}{% set ns.a = ns.a + 1 %}{{ ns.a }}{{ ns['a'] }}",
    "{% set ns = namespace(a=1) %}{% for x in l %}{% set ns.a = ns.a + x %}{% endfor %}{{ ns.a }}",
    "{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}{{ ns }}", "{% set ns = namespace() %}{% set ns._a = 1 %}",
    "{% set ns = namespace() %}{% set ns.l = [] %}{% for x in l %}{% set ns.l = ns.l + [x] %}{% endfor %}{{ ns.l }}",
    "{% set ns = namespace(x=1) %}{{ ns.x is defined }}{{ ns.y is defined }}{{ ns.items is defined }}{{ 'x' in ns }}",
    "{% set ns = namespace(x=1) %}{% set ns.me = ns %}{{ ns.me.me.x }}",
    "{% set a = 1 %}{% for x in l %}{% set a = a + x %}{{ a }}{% endfor %}{{ a }}",
    "{% set a = 1 %}{% if n %}{% set a = 2 %}{% endif %}{{ a }}", "{% if z %}{% set a = 1 %}{% endif %}{{ a }}|{{ n }}",
    "{% if z %}{% set n = 1 %}{% endif %}{{ n }}", "{% if n %}{% set n = 1 %}{% endif %}{{ n }}", "{% set n = n + 1 %}{{ n }}",
    "{% for x in l %}{{ n }}{% endfor %}{% set n = 1 %}", "{% for x in l %}{{ n }}{% set n = x %}{{ n }}{% endfor %}{{ n }}",
    "{{ n }}{% for x in l %}{{ n }}{% set n = x %}{{ n }}{% endfor %}{{ n }}", "{% macro m() %}{{ n }}{% endmacro %}{{ m() }}{% set n = 1 %}{{ m() }}",
    "{% macro m() %}{{ n }}{% endmacro %}{{ n }}{{ m() }}{% set n = 1 %}{{ m() }}", "{% for x in l %}{% if loop.first %}{% set a = x %}{% endif %}{{ a }};{% endfor %}",
    "{% set a %}x{{ n }}y{% endset %}{{ a }}{{ a|length }}", "{% set a | upper %}abc{% endset %}{{ a }}", "{% set a | replace('b', 'x') | upper %}abc{% endset %}{{ a }}",
    "{% set a %}{% set b = 1 %}{{ b }}{% endset %}{{ a }}{{ b }}", "{% set ns = namespace() %}{% set ns.x %}abc{% endset %}{{ ns.x }}", "{% set a %}<b>{% endset %}{{ a|e }}",
    "{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }};{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(c=9, a=8) }}{{ m() }}",
    "{% macro m(a) %}{{ a is defined }}{{ a }}{% endmacro %}{{ m() }}{{ m(none) }}", "{% macro m(a) %}{{ a.b }}{% endmacro %}{{ m() }}",
    "{% macro m() %}x{% endmacro %}{{ m(1) }}", "{% macro m() %}x{% endmacro %}{{ m(a=1) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}", "{% macro m(a=n) %}{{ a }}{% endmacro %}{{ m() }}", "{% macro m(a=1, b) %}{% endmacro %}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}{{ m() }}", "{% macro m(a) %}{{ varargs|length }}{% endmacro %}{{ m(1, 2, 3) }}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}body{% endcall %}", "{% macro m() %}{{ caller(1, b=2) }}{% endmacro %}{% call(a, b) m() %}{{ a }}{{ b }}{% endcall %}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}",
    "{% macro m(caller=none) %}{{ caller() if caller else 'no' }}{% endmacro %}{{ m() }}{% call m() %}y{% endcall %}", "{% macro m(caller) %}{{ caller() }}{% endmacro %}",
    "{% call n %}x{% endcall %}", "{% call undefined_name() %}x{% endcall %}", "{% for x in l %}{% call m() %}{{ x }}{% endcall %}{% endfor %}{% macro m() %}<{{ caller() }}>{% endmacro %}",
    "{% macro m() %}<{{ caller() }}>{% endmacro %}{% for x in l %}{% call m() %}{{ x }}{{ loop.index }}{% endcall %}{% endfor %}",
    "{% macro f(x) %}{{ x }}{% if x > 0 %}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "{% macro m() %}{% set y = 1 %}{% endmacro %}{{ m() }}{{ y }}|",
    "{{ m() }}{% macro m() %}x{% endmacro %}", "{% macro m() %}x{% endmacro %}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.catch_varargs }}{{ m.caller }}",
    "{% macro m(a, b=1) %}x{% endmacro %}{{ m.arguments }}{{ m is callable }}", "{% macro m() %} a {% endmacro %}[{{ m() }}]", "{%- macro m() -%} a {%- endmacro -%} [{{- m() -}}] ",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(*[1]) }}{{ m(**{'x': 2}) }}", "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(*l) }}", "{% macro m(x) %}{{ x }}{% endmacro %}{{ l|map('m') }}",
    "{% macro m() %}a{% endmacro %}{{ m() ~ m()|upper + m() }}", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{% macro m %}x{% endmacro %}", "{% macro 1() %}{% endmacro %}",
    "{% macro m(a, a) %}{% endmacro %}", "{{ m(1 }}", "{{ s.replace('a', 'b', ) }}", "{{ dict(a=1, a=2) }}", "{{ dict(a=1, 2) }}", "{{ dict(**{'a': 1}, b=2) }}", "{{ range(*[1, 3])|list }}", "{{ dict(**d) }}", "{{ dict(**l) }}", "{{ range(*n) }}",
    "{% with a = 1 %}{{ a }}{% endwith %}{{ a }}", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}", "{% with n = n + 1 %}{{ n }}{% endwith %}{{ n }}", "{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a }}",
    "{% with a = 1, b = a %}{{ b }}{% endwith %}", "{% with a %}{% endwith %}", "{% with a, b = l[:2] %}{{ b }}{% endwith %}", "{% filter upper %}abc{{ s }}{% endfilter %}", "{% filter replace('a', 'x')|upper %}abc{% endfilter %}",
    "{% filter indent(2) %}a\nb{% endfilter %}", "{% filter nope %}a{% endfilter %}", "{% filter upper %}a", "{% print n %}", "{% print n, s %}", "{% do n %}", "{% generation %}a{{ n }}{% endgeneration %}", "{% generation %}{% set y = 1 %}{% endgeneration %}{{ y }}|",
    "{% for x in l %}{% generation %}{{ loop.index }}{{ x }}{% endgeneration %}{% endfor %}", "{%- generation -%} a {%- endgeneration -%} b", "{% generation %}", "{% raw %}{{ x }}{% if %}{% endraw %}", "{%- raw -%}  a {{ b }} {%- endraw -%}  c",
    "a\n{% raw %}\nb\n{% endraw %}\nc", "  {% raw %} x {% endraw %} y", "  {%- raw %} x {% endraw -%}\n y", "{% raw %}a", "{% raw %}{% raw %}{% endraw %}x", "{# c #}a{# multi\nline #}b", "a {#- c -#} b", "a\n  {# c #}\nb", "{# c", "{# {{ x }} #}x", "{#- -#}", "{##}", "{#-#}", "{#+ a +#}\nb",
    "a\n{% if n %}\n  b\n{% endif %}\nc\n", "a\n  {% if n %}\n  b\n  {% endif %}\nc", "a {% if n %} b {% endif %} c", "a {%- if n -%} b {%- endif -%} c", "a\n  {%+ if n %}b{% endif %}", "a\n{% if n +%}\nb{% endif %}", "  {{ n }}\n  {{- n }}\n  {{ n -}}\n  x", "{{ n }}\n\n{{ n }}\n", "a\n\n  {%- if n %}\n\nb\n\n  {%- endif %}\n\nc",
    "\t {% if n %}x{% endif %}", "x{% if n %}\n\n{% endif %}\n\ny", "x\r\ny\rz\n", "{% if n %}\r\nb{% endif %}", "a\n\n", "\n", "", "  ", "\n\n", "\u00a0{%- if n %}x{% endif %}", "a\u3000\n  {% set x = 1 %}\n\u3000b", "{{- n -}} x {{+ n }}", "x {{+ n }}", "a {{-n}}", "{{-1}}", "{{ -1 }}", "{{ n }}}", "{{ {'a': {'b': 1}} }}", "{{ {'a': 1}}}", "{{{'a': 1}}}", "{{ '}}' }}", "{{ '%}' }}", "{% set x = '%}' %}{{ x }}", "{{ \"{{ x }}\" }}",
    "{{ n", "{{ n %}", "{% if n }}", "{{ }}", "{{}}", "{%%}", "{% %}", "{{ n n }}", "{{ n. }}", "{{ .n }}", "{{ n| }}", "{{ |n }}", "{{ n is }}", "{{ (n }}", "{{ n) }}", "{{ [n }}", "{{ [n) }}", "{{ n] }}", "{{ {n} }}", "{{ {n: } }}", "{{ 'abc }}", "{{ n @ 1 }}", "{{ n ! 1 }}", "{{ n & 1 }}", "{{ $n }}", "{{ n = 1 }}", "{{ n := 1 }}", "{{ 1 2 }}", "{{ 1a }}", "{{ a-b }}", "{{ n++1 }}", "{{ n--1 }}", "{{ n+-1 }}", "{{ not }}", "{{ n not 1 }}", "{{ n in }}", "{{ lambda: 1 }}", "{{ [x for x in l] }}", "{{ n ? 1 : 2 }}", "{{ n;1 }}", "{{ s[1, 2] }}", "{{ s[] }}", "{{ s[1:2:3:4] }}", "{{ n == not z }}", "{{ 'a' 1 }}", "{{ d.a.b.c }}", "{{ if }}", "{{ for }}", "{{ in }}", "{{ is }}", "{{ and }}", "{{ and and and }}", "{{ é }}", "{% set é = 1 %}{{ é }}", "{{ _x }}", "{{ x1 }}",
    "{% nope %}", "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{% from 'x' import y %}", "{% trans %}x{% endtrans %}", "{% elif %}", "{% else %}", "{% endset %}", "{% set x = 1 %}{% endset %}", "{% if n %}{% else %}{% else %}{% endif %}", "{% if n %}{% else %}{% elif %}{% endif %}", "{% if n is nope %}{% endif %}", "{% if z %}{{ n|nope }}{% endif %}ok", "{% if z %}{% for x in l %}{{ n|nope }}{% endfor %}{% endif %}", "{% for x in el %}{{ x|nope }}{% endfor %}", "{% if n %}{{ n|nope }}{% endif %}", "{{ 1 if n else n|nope }}", "{% macro m() %}{{ n|nope }}{% endmacro %}",
    "{{ l|map('upper') is defined }}{{ l|map('string')|list|length }}", "{% set g = l|map('string') %}{{ g|list }}{{ g|list }}", "{% set g = l|select('odd') %}{{ g|first }}{{ g|list }}", "{% set g = l|map('nope') %}ok", "{% set g = ['a', 1, 'b']|map('upper') %}{{ g|list }}", "{% set g = [1, 'a', 2]|map('abs') %}{{ g|first }}", "{% for x in [1, 'a', 2]|map('abs') %}{{ x }}{% endfor %}", "{% if l|select('gt', 99) %}truthy{% endif %}", "{% for x in l|map('string') %}{{ loop.length }}{{ loop.last }}{% endfor %}",
    "{% for m in rows %}{% if loop.index0 > 0 and rows[loop.index0 - 1].n == 'x' %}{{ m.n }}{% endif %}{% endfor %}", "{% for m in rows|selectattr('on', 'defined') %}{{ m.n }}{{ loop.last }}{% endfor %}", "{{ rows|map(attribute='n')|map('upper')|join('-') }}", "{% set x = rows|groupby('v', default=0) %}{% for g in x %}{{ g.grouper }}:{{ g.list|length }};{% endfor %}", "{% for v, items in rows[:3]|groupby('v') %}{{ v }}={{ items|map(attribute='n')|list }};{% endfor %}",
    "{{ ' '.join(['a', 'b']) }}{{ 'x' if 'y' in 'xyz' }}{{ 'n' if 'q' in 'xyz' }}", "{{ (l + [4])|length }}{{ l }}", "{% set x = l + [9] %}{{ x[-1] }}{{ l|length }}", "{{ s[:5] ~ '...' ~ s[-5:] }}", "{{ deep.x.y|last }}", "{{ mix|map('string')|map('length')|list }}", "{{ 'a,b;c'|replace(',', ';')}}", "{{ {'x': l}.x[0] }}", "{{ [[1, 2], [3]][1][0] }}", "{{ (1, 2) }}{{ (1,) }}{{ () }}", "{{ d.items()|list|first|last }}",
    "{%- set ns = namespace(found=false) -%}{%- for m in rows -%}{%- if m.n == 'Y' -%}{%- set ns.found = true -%}{%- endif -%}{%- endfor -%}{{ ns.found }}", "{{ 'yes' if rows|selectattr('v', 'equalto', 1)|list|length > 0 else 'no' }}", "{{ l is iterable and l is not string and l is not mapping }}", "{{ true }}{{ True }}{{ none }}{{ None }}{{ false }}", "{{ 1 }}{{ 1.0 }}{{ '1' }}", "{{ n }}{{ s }}{{ l }}{{ d }}",
]


def all_snippets():
    for block in (EXPRESSIONS, FILTERS, METHODS, TESTS):
        for line in block.strip("\n").split("\n"):
            yield "{{ " + line + " }}"
    yield from STATEMENTS


VALUES = ["s", "u", "sp", "e", "q", "html", "lines", "'12'", "'-3.7'", "(html|safe)", "n", "z", "neg", "big", "f", "f3", "tiny", "huge", "t", "fa", "none",
          "l", "ls", "mix", "el", "nest", "d", "ed", "deep", "rows", "fl", "(1, 'a')", "()", "range(4)", "d.items()", "d.keys()", "d.values()",
          "(l|map('string'))", "(l|reverse)", "undefined_name", "d.nothing", "namespace(a=1)", "range", "s.upper", "-0.0"]
FILTER_CALLS = [
    "abs", "attr('a')", "batch(2)|list", "batch(3, 'x')|list", "capitalize", "center(12)", "count", "d('x')", "default('x', true)", "dictsort",
    "dictsort(by='value')", "e", "escape", "first", "float", "float(1)", "forceescape", "format('a')", "format(1, 2)", "groupby('a')", "indent", "indent('-', true, true)",
    "int", "int(-1)", "int(base=16)", "items|list", "join", "join('-')", "join(1)", "last", "length", "list", "lower", "map('string')|list", "map('length')|list",
    "map(attribute='n')|list", "map(attribute=0)|list", "max", "min", "reject('none')|list", "reject|list", "rejectattr('n')|list", "replace('a', 'b')", "replace(1, 2)",
    "replace('', '-', 2)", "reverse", "reverse|list", "round", "round(1)", "round(-1)", "round(2, 'ceil')", "round(0, 'floor')", "safe", "select('string')|list", "select|list",
    "selectattr('n')|list", "selectattr('n', 'eq', 'x')|list", "slice(2)|list", "slice(3, 'y')|list", "sort", "sort(true, true)", "sort(attribute='n')", "string", "sum",
    "sum(start=1.5)", "title", "tojson", "tojson(indent=1)", "tojson(ensure_ascii=true, sort_keys=true)", "trim", "trim('H ')", "truncate(6)", "truncate(6, true, '', 0)", "unique|list",
    "unique(true)|list", "upper", "urlencode", "wordcount",
]
TEST_CALLS = [
    "boolean", "callable", "defined", "divisibleby(2)", "divisibleby(1.5)", "eq(n)", "escaped", "even", "false", "filter", "float", "ge(2)", "gt('a')", "in(mix)", "in('Hello')", "in(d)",
    "integer", "iterable", "le(2.5)", "lower", "lt(l)", "mapping", "ne(none)", "none", "number", "odd", "sameas(none)", "sequence", "string", "test", "true", "undefined", "upper",
]
METHOD_CALLS = [
    "capitalize()", "casefold()", "center(14, '*')", "count('l')", "count(1)", "endswith('d')", "expandtabs(3)", "find('l', 2)", "find('', 3)", "format(1)", "index('l')", "index(1)", "isalnum()", "isalpha()",
    "isascii()", "isdecimal()", "isdigit()", "isidentifier()", "islower()", "isnumeric()", "isprintable()", "isspace()", "istitle()", "isupper()", "join(ls)", "ljust(9)", "lower()", "lstrip('H \t')",
    "partition('l')", "removeprefix('H')", "removesuffix('d')", "replace('l', 'LL')", "rfind('l')", "rindex('l')", "rjust(9, '<')", "rpartition('l')", "rsplit(none, 1)", "rsplit('l')", "rstrip()", "split()",
    "split('l', 1)", "splitlines()", "splitlines(true)", "startswith('H')", "strip()", "strip('dH')", "swapcase()", "title()", "upper()", "zfill(15)", "get('a')", "get('zz', 1)", "items()|list", "keys()|list",
    "values()|list", "copy()", "nope", "nope.x", "_x", "a", "n", "x.y", "0", "append(1)", "pop()", "update({})",
]
SUBSCRIPTS = ["0", "-1", "99", "'a'", "'n'", "none", "1.5", "true", "undefined_name", "l", "(1, 2)", "1:", ":-1", "::2", "::-1", "-2:9", "none:none", "'a':", "5:1"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]
OPERANDS = ["s", "e", "'Hello'", "'%s'", "(html|safe)", "n", "z", "neg", "f", "-0.0", "t", "none", "l", "el", "[3]", "nest", "d", "ed", "(1, 'a')", "()", "range(4)", "range(0)", "d.keys()",
            "(l|map('string'))", "undefined_name", "namespace()", "2", "1e300", "big"]


def matrix():
    """Every operation on every kind of value, valid or not: for a comparison that is too long to be kept."""
    for value in VALUES:
        for form in ("{{ %s }}", "{{ [%s] }}", "{{ %s|list }}", "{{ 1 if %s }}", "{%% for x in %s %%}{{ x }}{{ loop.length }}{%% endfor %%}", "{{ {%s: 1} }}", "{{ -%s }}", "{{ %s() }}",
                     "{%% for x, y in %s %%}{{ x }}{%% endfor %%}", "{%% set x, y = %s %%}{{ y }}", "{{ dict(%s) }}", "{{ dict(**%s) }}", "{{ range(%s)|list }}", "{{ {'k': %s}|tojson }}", "{{ '%%s' %% %s }}", "{{ '{}'.format(%s) }}", "{{ '{:>8}'.format(%s) }}",
                     "{{ '%%d' %% %s }}", "{{ '%%r' %% (%s,) }}", "{{ raise_exception(%s) }}", "{{ strftime_now(%s) }}", "{{ loop(%s) }}", "{{ ','.join(%s) }}", "{{ 'abc'.startswith(%s) }}", "{{ 'abc'.split(%s) }}", "{{ 'abc'.strip(%s) }}", "{{ l.count(%s) }}", "{{ d.get(%s) }}"):
            yield form % value
        for call in FILTER_CALLS:
            yield "{{ %s|%s }}" % (value, call)
        for call in TEST_CALLS:
            yield "{{ %s is %s }}" % (value, call)
        for call in METHOD_CALLS:
            yield "{{ (%s).%s }}" % (value, call)
        for call in SUBSCRIPTS:
            yield "{%% set v = %s %%}{{ v[%s] }}" % (value, call)
    for left in OPERANDS:
        for right in OPERANDS:
            for op in OPERATORS:
                if op == "**" and right in ("big", "1e300"):
                    continue  # Python would compute all the digits
                yield "{%% set a, b = %s, %s %%}{{ a %s b }}" % (left, right, op)
