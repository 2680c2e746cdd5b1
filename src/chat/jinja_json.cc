#include "chat/jinja_json.h"

#include <nlohmann/json.hpp>

#include "chat/jinja_ops.h"
#include "chat/jinja_runtime.h"

namespace tidal::jinja {
namespace {

using Json = nlohmann::ordered_json;

Value MakeString(const std::string& text) {
  auto* object = new StringObject;
  object->text = text;
  return Value(Kind::kString, object);
}

Result<Value> Convert(const Json& json, int32_t depth) {
  if (depth > kMaxValueHeight) {
    return InvalidArgument("expected variables nested at most {} levels deep", kMaxValueHeight);
  }
  switch (json.type()) {
    case Json::value_t::null:
      return Value::None();
    case Json::value_t::boolean:
      return Value::Bool(json.get_ref<const Json::boolean_t&>());
    case Json::value_t::number_integer:
      return Value::Int(json.get_ref<const Json::number_integer_t&>());
    case Json::value_t::number_unsigned: {
      const uint64_t value = json.get_ref<const Json::number_unsigned_t&>();
      if (value <= static_cast<uint64_t>(INT64_MAX)) return Value::Int(static_cast<int64_t>(value));
      return InvalidArgument("expected integers of at most 64 bits with a sign, found {}", value);
    }
    case Json::value_t::number_float:
      return Value::Float(json.get_ref<const Json::number_float_t&>());
    case Json::value_t::string:
      return MakeString(json.get_ref<const Json::string_t&>());
    case Json::value_t::array: {
      auto* list = new ListObject;
      Value value(Kind::kList, list);
      list->items.reserve(json.size());
      for (const Json& element : json) {
        TIDAL_ASSIGN_OR_RETURN(Value item, Convert(element, depth + 1));
        list->height = std::max(list->height, item.height());
        list->items.push_back(std::move(item));
      }
      ++list->height;
      return value;
    }
    case Json::value_t::object: {
      auto* dict = new DictObject;
      Value value(Kind::kDict, dict);
      for (auto it = json.begin(); it != json.end(); ++it) {
        TIDAL_ASSIGN_OR_RETURN(Value item, Convert(it.value(), depth + 1));
        dict->height = std::max(dict->height, item.height());
        dict->map.Set(EncodeStringKey(it.key()), MakeString(it.key()), std::move(item));
      }
      ++dict->height;
      return value;
    }
    case Json::value_t::binary:
    case Json::value_t::discarded:
      break;
  }
  return InvalidArgument("expected variables of JSON, found binary or invalid data");
}

}  // namespace

Result<Value> FromJson(const Json& json) { return Convert(json, 0); }

}  // namespace tidal::jinja
