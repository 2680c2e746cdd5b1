"""Conversations, and chat templates in the manner of ten model families: our own words, the constructs that real ones
use. Data of make_chat_fixtures.py."""

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Today's weather at a place <in Celsius> & \"more\"",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "a city, naïve or not: São Paulo 東京"},
                "days": {"type": "integer", "default": 1, "minimum": 1.5},
                "unit": {"type": "string", "enum": ["C", "F"]},
                "empty": {},
                "list": [],
            },
            "required": ["place"],
            "strict": True,
            "extra": None,
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "call12345", "type": "function",
        "function": {"name": "get_weather", "arguments": {"place": "Paris", "days": 2}}}
BARE_CALL = {"name": "clock", "arguments": {"zone": "Europe/Paris"}}


def message(role, content, **more):
    return {"role": role, "content": content, **more}


def variables(messages, tools=None, prompt=True, **more):
    return {"messages": messages, "tools": tools, "add_generation_prompt": prompt, "bos_token": "<s>",
            "eos_token": "</s>", **more}


U, A = "user", "assistant"
CONVERSATIONS = {
    "one": variables([message(U, "Hello!")]),
    "one_no_prompt": variables([message(U, "Hello!")], prompt=False),
    "system": variables([message("system", "  Be brief.\n"), message(U, "Hi")]),
    "turns": variables([message("system", "You help."), message(U, "1+1?"), message(A, "2"), message(U, " and\n\n2+2? ")]),
    "ends_with_assistant": variables([message(U, "Write"), message(A, "<think>\nhm\n</think>\n\nDone")], prompt=False),
    "thinking": variables([message(U, "a"), message(A, "<think>\nfirst\n</think>\n\nA"), message(U, "b"),
                           message(A, "B", reasoning_content="\nwhy\n"), message(U, "c")], enable_thinking=False),
    "unicode": variables([message(U, "Grüße, 東京 🙂 \u00a0\u2003x\u200b"), message(A, "ÀÉ<b>&amp;'\"\\n"), message(U, "{{ x }} {% y %}")]),
    "tools_unused": variables([message(U, "Hi")], tools=[WEATHER, CLOCK]),
    "tools_system": variables([message("system", "Use tools."), message(U, "Weather?")], tools=[WEATHER]),
    "tools_called": variables([message(U, "Weather in Paris?"), message(A, "", tool_calls=[CALL]),
                               message("tool", "{\"t\": 21.5}", name="get_weather", tool_call_id="call12345"),
                               message(A, "It is 21.5 degrees."), message(U, "Thanks")], tools=[WEATHER, CLOCK]),
    "tools_two_results": variables([message(U, "Both"), message(A, "Looking.", tool_calls=[CALL, BARE_CALL]),
                                    message("tool", "sunny"), message("tool", "12:00")], tools=[WEATHER, CLOCK]),
    "tool_calls_null": variables([message(U, "x"), message(A, "y", tool_calls=None), message(U, "z")]),
    "content_null": variables([message(U, "x"), message(A, None, tool_calls=[CALL]), message("tool", "ok")]),
    "content_parts": variables([message(U, [{"type": "text", "text": "look "}, {"type": "image"},
                                            {"type": "text", "text": "here"}])]),
    "empty": variables([]),
    "no_content": variables([{"role": U}]),
    "two_users": variables([message(U, "a"), message(U, "b")]),
    "odd_role": variables([message("developer", "d"), message(U, "a")]),
    "documents": variables([message(U, "q")], documents=[{"title": "T1", "text": "one"}, {"title": "T2", "text": "two\nlines"}],
                           date_string="01 Jan 2025", custom_tools=[CLOCK]),
}

LLAMA = """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "1 Jan 1970" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The system text, taken out of the messages so that it can go where it belongs. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_text = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_text = "" %}
{%- endif %}

{{- "<|head|>system<|/head|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Tools may be used.\\n" }}
{%- endif %}
{{- "Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {{- 'Answer with {"name": the function, "parameters": its arguments}.' }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_text }}
{{- "<|end|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|head|>' + message['role'] + '<|/head|>\\n\\n'+ message['content'] | trim + '<|end|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one call at a time, please") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|head|>assistant<|/head|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|end|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|head|>ipython<|/head|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|end|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|head|>assistant<|/head|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("user and assistant must take turns") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}
            {{- "[/TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("ids have nine characters") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {{- ", " if not loop.last else "]" + eos_token }}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[RESULTS] {"content": ' + content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/RESULTS]' }}
    {%- else %}
        {{- raise_exception("an unknown role: " + message.role) }}
    {%- endif %}
{%- endfor %}
"""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn here') }}{% endif %}\
{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('turns must alternate') }}{% endif %}\
{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}\
{{ '<turn>' + role + '
' }}
{%- if message['content'] is string -%}
        {{ message['content'] | trim }}
{%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
{%- else -%}
        {{ raise_exception("cannot read this content") }}
{%- endif -%}
{{ '</turn>
' }}{% endfor %}{% if add_generation_prompt %}{{'<turn>model
'}}{% endif %}"""

QWEN3 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Functions\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}{{- '\\n' }}{%- endif %}
                {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
                {{- '<tool_call>\\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' }}{{- content }}{{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

DEEPSEEK = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}\
{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='', is_first_sp=true) %}\
{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}\
{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}\
{%- else %}{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}\
{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}\
{%- set ns.is_tool = false -%}{{'<|User|>' + message['content']}}{%- endif %}\
{%- if message['role'] == 'assistant' and 'tool_calls' in message %}{%- set ns.is_tool = false -%}\
{%- for tool in message['tool_calls'] %}{%- if not ns.is_first %}{%- if message['content'] is none %}\
{{'<|Assistant|><calls>' + tool['type'] + '<sep>' + tool['function']['name'] + '\\n```json\\n' + tool['function']['arguments']|tojson + '\\n```'}}\
{%- else %}{{'<|Assistant|>' + message['content'] + '<calls>' + tool['function']['name']}}{%- endif %}\
{%- set ns.is_first = true -%}{%- else %}{{'\\n' + tool['function']['name']}}{%- endif %}{%- endfor %}{{'</calls>'}}{%- endif %}\
{%- if message['role'] == 'assistant' and 'tool_calls' not in message %}{%- if ns.is_tool %}\
{{'</outputs>' + message['content'] + '<|eos|>'}}{%- set ns.is_tool = false -%}{%- else %}\
{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}\
{{'<|Assistant|>' + content + '<|eos|>'}}{%- endif %}{%- endif %}\
{%- if message['role'] == 'tool' %}{%- set ns.is_tool = true -%}{%- if ns.is_output_first %}\
{{'<outputs><out>' + message['content'] + '</out>'}}{%- set ns.is_output_first = false %}{%- else %}\
{{'<out>' + message['content'] + '</out>'}}{%- endif %}{%- endif %}{%- endfor -%}\
{% if ns.is_tool %}{{'</outputs>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<|Assistant|>'}}{% endif %}"""

TYPESCRIPT = """{%- macro render_type(spec, required) -%}
    {%- if spec.type == "array" -%}
        {%- if spec['items'] -%}{{- render_type(spec['items'], required) }}[]{%- else -%}any[]{%- endif -%}
    {%- elif spec.enum is defined and spec.enum -%}
        {{- '"' + spec.enum | join('" | "') + '"' -}}
    {%- elif spec.type is defined and spec.type is iterable and spec.type is not string -%}
        {{- spec.type | join(" | ") -}}
    {%- elif spec.type == "object" and spec.properties -%}
{
        {%- for name, prop in spec.properties.items() -%}
            {{ name }}{%- if name not in (spec.required or []) -%}?{%- endif -%}: {{ render_type(prop, spec.required) }}
            {%- if not loop.last -%}, {% endif -%}
        {%- endfor -%}
}
    {%- elif spec.type == "integer" -%}number
    {%- else -%}{{ spec.type | default("any") }}
    {%- endif -%}
{%- endmacro -%}
{%- macro render_tools(tools, name="functions") -%}
    {{- "namespace " + name + " {\\n" }}
    {%- for tool in tools %}
        {%- set tool = tool.function %}
        {{- "// " + tool.description|default("no description") + "\\n" }}
        {{- "type " + tool.name + " = (" }}
        {%- if tool.parameters and tool.parameters.properties %}
            {{- "_: {\\n" }}
            {%- for param_name, param_spec in tool.parameters.properties.items() %}
                {%- if param_spec.description %}
                    {{- "// " + param_spec.description + "\\n" }}
                {%- endif %}
                {{- param_name }}
                {%- if param_name not in (tool.parameters.required or []) -%}?{%- endif -%}
                {{- ": " ~ render_type(param_spec, tool.parameters.required or []) }}
                {%- if param_spec.default is defined -%}{{- ", // default: " ~ param_spec.default }}{%- else -%},{%- endif %}
                {{- "\\n" }}
            {%- endfor %}
            {{- "}" }}
        {%- endif %}
        {{- ") => any;\\n" }}
    {%- endfor %}
    {{- "} // namespace " + name }}
{%- endmacro -%}
{%- set last = namespace(user=-1) %}
{%- for message in messages if message.role == 'user' %}{% set last.user = loop.index0 %}{% endfor %}
{%- if tools %}{{ render_tools(tools) }}{% endif %}
{%- for message in messages %}
    {%- generation %}{{ "<" ~ message.role ~ ":" ~ loop.index ~ "/" ~ loop.length ~ ">" }}{%- endgeneration %}
    {%- if message.content is string %}{{ message.content }}
    {%- elif message.content %}{{ message.content | map(attribute='text', default='?') | join('+') }}
    {%- endif %}
{%- else %}nothing{% endfor %}{{ last.user }}
"""

PHI = """{% for message in messages %}
{% if loop.first and message['role'] != 'system' %}<|system|>
You are helpful.<|end|>
{% endif %}
<|{{ message['role'] }}|>
{{ message['content'] }}<|end|>
{% endfor %}
{% if add_generation_prompt %}
<|assistant|>
{% else %}
{{ eos_token -}}
{% endif %}
"""

GRANITE = """{%- macro section(title) %}
<{{ title }}>{{ caller(title|lower) }}</{{ title }}>
{% endmacro %}
{%- set tool_list = tools or [] %}{% set has_docs = documents is defined and documents|length > 0 %}
{%- call(kind) section('Preamble') -%}
{{ kind }}:{% for tool in tool_list|sort(attribute='function.name') %}{{ loop.cycle('a', 'b') }}{{ tool.function.name|upper }};{% endfor %}
{%- endcall %}
{%- if has_docs %}
{%- filter indent(2) %}
{% for document in documents %}
Document: {{ loop.index0 }} of {{ loop.length }}
{% for k, v in document|dictsort(reverse=true) %}
{{ k }}={{ v }}
{% endfor %}
{%- endfor %}
{%- endfilter %}
{%- endif %}
{%- with turns = messages|rejectattr('role', 'in', ['system', 'tool'])|list, first = messages|first %}
{{- turns|length }} turns, first {{ first.role|default('nobody')|title }}
{%- endwith %}
{%- set body %}
{% for role, group in messages|groupby('role') %}
{{ role }}: {{ group|length }}{{ '' if loop.last else ',' }}
{% endfor %}
{% endset %}
{{ body|trim|replace('\\n', ' ') }}
{%- for message in messages recursive %}
{%- if message.tool_calls %}[{{ loop(message.tool_calls|map(attribute='function', default={'name': 'bare'})|list) }}]{% endif %}
{{- '(' ~ loop.depth ~ ')' ~ (message.name or message.role) }}
{%- if loop.index >= 4 %}{% break %}{% endif %}
{%- endfor %}
"""

LLAMA2 = """{% if messages and messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}\
{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}\
{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('user and assistant take turns, and the user begins') }}{% endif %}\
{% if loop.index0 == 0 and system_message != false %}\
{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}\
{% else %}{% set content = message['content'] %}{% endif %}\
{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}\
{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""

GLM = """[g]<sop>
{%- macro visible_text(content) -%}
    {%- if content is string -%}{{- content }}
    {%- elif content is iterable and content is not mapping -%}
        {%- for item in content -%}
            {%- if item is mapping and item.type == 'text' -%}{{- item.text }}{%- elif item is string -%}{{- item }}{%- endif -%}
        {%- endfor -%}
    {%- else -%}{{- content }}{%- endif -%}
{%- endmacro -%}
{%- if tools -%}
<|system|>
<tools>
{% for tool in tools %}{{ tool | tojson(ensure_ascii=False) }}
{% endfor %}</tools>
{%- endif -%}
{%- set ns = namespace(last_user_index=-1) %}
{%- for m in messages %}{%- if m.role == 'user' %}{% set ns.last_user_index = loop.index0 -%}{%- endif %}{%- endfor %}
{% for m in messages %}
{%- if m.role == 'user' -%}<|user|>
{{ visible_text(m.content) }}{{- '/nothink' if (enable_thinking is defined and not enable_thinking and not visible_text(m.content).endswith("/nothink")) else '' -}}
{%- elif m.role == 'assistant' -%}<|assistant|>
{%- set content = visible_text(m.content) %}
{%- if '</think>' in content %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}
{%- if loop.index0 > ns.last_user_index and m.reasoning_content %}{{ '\\n<think>' + m.reasoning_content.strip() + '</think>' }}{%- endif -%}
{%- if content.strip() -%}{{ '\\n' + content.strip() }}{%- endif -%}
{% for tc in m.tool_calls or [] %}
{%- if tc.function %}{%- set tc = tc.function %}{%- endif %}
{{ '\\n<call>' + tc.name }}
{% for k, v in tc.arguments.items() %}<key>{{ k }}</key><value>{{ v | tojson(ensure_ascii=False) if v is not string else v }}</value>
{% endfor %}</call>{% endfor %}
{%- elif m.role == 'tool' -%}
{%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|observation|>' }}{%- endif %}
{{- '\\n<response>\\n' ~ m.content ~ '\\n</response>' }}
{%- elif m.role == 'system' -%}<|system|>
{{ visible_text(m.content) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{{- '\\n<think></think>' if (enable_thinking is defined and not enable_thinking) else '' -}}{%- endif -%}
"""

TEMPLATES = {
    "llama": LLAMA, "mistral": MISTRAL, "gemma": GEMMA, "qwen3": QWEN3, "deepseek": DEEPSEEK, "typescript": TYPESCRIPT,
    "phi": PHI, "granite": GRANITE, "llama2": LLAMA2, "glm": GLM,
}
