#include "attention/sidecar.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <tuple>

#include <nlohmann/json.hpp>

#include "attention/json_text.h"
#include "attention/plan_keys.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxFileBytes = size_t{16} << 20;
constexpr size_t kMaxEntries = 4096;
constexpr int kFormat = 1;

// A file's name on one line.
std::string OneLine(std::string_view name) {
  std::string line;
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      line += fmt::format("\\x{:02x}", byte);
    } else {
      line += c;
    }
  }
  return line;
}

struct Model {
  int32_t num_layers = 0;
  int32_t num_kv_heads = 0;
};

// What a value is, for messages.
std::string Found(const Json* value) {
  if (value == nullptr) return "missing";
  if (value->is_string()) return QuotedText(value->get_ref<const std::string&>());
  if (value->is_number() || value->is_boolean()) return value->dump();
  return value->is_null() ? "null" : fmt::format("an {}", value->type_name());
}

const Json* Field(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

std::optional<int32_t> IntIn(const Json& value, int32_t min, int32_t max) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(max)) return std::nullopt;
    if (static_cast<int64_t>(number) < min) return std::nullopt;
    return static_cast<int32_t>(number);
  }
  return std::nullopt;  // negative or no integer: none of the fields takes one
}

Status ReadCount(const Json& object, const char* key, int32_t min, int32_t* out) {
  const Json* const value = Field(object, key);
  const std::optional<int32_t> count =
      value == nullptr ? std::nullopt : IntIn(*value, min, kMaxPlanTokens);
  if (!count)
    return Corrupt("{} is {}, expected {} to {} tokens", key, Found(value), min, kMaxPlanTokens);
  *out = *count;
  return OkStatus();
}

Status ReadLayers(const Json& value, const char* key, int32_t num_layers,
                  std::vector<int32_t>* out) {
  if (!value.is_array())
    return Corrupt("{} is {}, expected an array of layers", key, Found(&value));
  for (const Json& item : value) {
    const std::optional<int32_t> layer = IntIn(item, 0, num_layers - 1);
    if (!layer)
      return Corrupt("{} has {}, expected layers 0 to {}", key, Found(&item), num_layers - 1);
    if (!out->empty() && *layer <= out->back())
      return Corrupt("{} has layer {} after {}, expected ascending layers, each once", key, *layer,
                     out->back());
    out->push_back(*layer);
  }
  return OkStatus();
}

// The layers of an entry that neither read everything nor choose.
std::vector<int32_t> ReuseLayers(const SidecarEntry& entry, int32_t num_layers) {
  std::vector<int32_t> layers;
  for (int32_t layer = 0; layer < num_layers; ++layer) {
    if (!std::binary_search(entry.select.begin(), entry.select.end(), layer) &&
        !std::binary_search(entry.full.begin(), entry.full.end(), layer))
      layers.push_back(layer);
  }
  return layers;
}

Status ReadHeadmap(const Json& value, const Model& model, SidecarEntry* entry) {
  const size_t num_reuse = ReuseLayers(*entry, model.num_layers).size();
  if (!value.is_array() || value.size() != num_reuse)
    return Corrupt("headmap is {}, expected one array for each of the {} reuse layers",
                   value.is_array() ? fmt::format("an array of {}", value.size()) : Found(&value),
                   num_reuse);
  for (const Json& row : value) {
    if (!row.is_array() || row.size() != static_cast<size_t>(model.num_kv_heads))
      return Corrupt("headmap has {}, expected arrays of {} sets, one for each KV head",
                     row.is_array() ? fmt::format("an array of {}", row.size()) : Found(&row),
                     model.num_kv_heads);
    std::vector<int32_t>& map = entry->headmap.emplace_back();
    for (const Json& item : row) {
      const std::optional<int32_t> set = IntIn(item, 0, model.num_kv_heads - 1);
      if (!set)
        return Corrupt("headmap has {}, expected sets 0 to {}", Found(&item),
                       model.num_kv_heads - 1);
      map.push_back(*set);
    }
  }
  return OkStatus();
}

Status ReadEntryLayers(const Json& json, const Model& model, SidecarEntry* entry) {
  const Json* const select = Field(json, "select");
  if (select == nullptr || (select->is_array() && select->empty()))
    return Corrupt("select is {}, expected an array of at least one layer",
                   select == nullptr ? "missing" : "empty");
  TIDAL_RETURN_IF_ERROR(ReadLayers(*select, "select", model.num_layers, &entry->select));
  if (const Json* const full = Field(json, "full"))
    TIDAL_RETURN_IF_ERROR(ReadLayers(*full, "full", model.num_layers, &entry->full));
  else
    for (int32_t layer = 0; layer < entry->select.front(); ++layer) entry->full.push_back(layer);
  const std::vector<int32_t> reuse = ReuseLayers(*entry, model.num_layers);
  if (!reuse.empty() && reuse.front() < entry->select.front())
    return Corrupt("layer {} is neither in full nor in select, and no selection layer is before it",
                   reuse.front());
  return OkStatus();
}

Status ReadEntry(const Json& json, const Model& model, SidecarEntry* entry) {
  if (!json.is_object()) return Corrupt("expected an object, found {}", Found(&json));
  const Json* const preset = Field(json, "preset");
  const bool is_known = preset != nullptr && preset->is_string() && *preset != "full" &&
                        FindPlanPreset(preset->get_ref<const std::string&>()) != nullptr;
  if (!is_known)
    return Corrupt("preset is {}, expected one of {} other than full", Found(preset),
                   PlanPresetNames());
  entry->preset = preset->get<std::string>();
  TIDAL_RETURN_IF_ERROR(ReadCount(json, "budget", 1, &entry->budget));
  if (Field(json, "below") != nullptr)
    TIDAL_RETURN_IF_ERROR(ReadCount(json, "below", 0, &entry->below.emplace()));
  TIDAL_RETURN_IF_ERROR(ReadEntryLayers(json, model, entry));
  if (const Json* const scope = Field(json, "scope")) {
    if (scope->is_string()) entry->scope = ScopeFromName(scope->get_ref<const std::string&>());
    if (!entry->scope) return Corrupt("scope is {}, expected shared, kv or head", Found(scope));
  }
  if (const Json* const scorer = Field(json, "scorer")) {
    if (scorer->is_string()) entry->scorer = ScorerFromName(scorer->get_ref<const std::string&>());
    if (!entry->scorer)
      return Corrupt(
          "scorer is {}, expected exact, index4, index2, pages-minmax, pages-meanstd or none",
          Found(scorer));
  }
  const Json* const headmap = Field(json, "headmap");
  return headmap == nullptr ? OkStatus() : ReadHeadmap(*headmap, model, entry);
}

bool IsHash(const Json* value) {
  if (value == nullptr || !value->is_string()) return false;
  const std::string& text = value->get_ref<const std::string&>();
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

Status ReadEntries(const Json& json, const Model& model, std::vector<SidecarEntry>* entries) {
  const Json* const plans = Field(json, "plans");
  if (plans == nullptr || !plans->is_array())
    return Corrupt("plans is {}, expected an array of plans", Found(plans));
  if (plans->size() > kMaxEntries)
    return Corrupt("plans has {} plans, expected at most {}", plans->size(), kMaxEntries);
  for (size_t i = 0; i < plans->size(); ++i) {
    const Status status = ReadEntry((*plans)[i], model, &entries->emplace_back());
    if (!status.ok()) return status.Annotate(fmt::format("plans[{}]", i));
  }
  const auto key = [](const SidecarEntry& e) { return std::tie(e.preset, e.budget); };
  std::stable_sort(entries->begin(), entries->end(),
                   [&](const SidecarEntry& a, const SidecarEntry& b) { return key(a) < key(b); });
  const auto twice = std::adjacent_find(
      entries->begin(), entries->end(),
      [&](const SidecarEntry& a, const SidecarEntry& b) { return key(a) == key(b); });
  if (twice != entries->end())
    return Corrupt("plans has two plans of preset {} with budget {}, expected one", twice->preset,
                   twice->budget);
  return OkStatus();
}

}  // namespace

Result<Sidecar> Sidecar::Parse(std::string_view name, std::string_view json_text,
                               std::string_view model_hash, int32_t num_layers,
                               int32_t num_kv_heads) {
  Sidecar sidecar;
  sidecar.name_ = name;
  const auto read = [&]() -> Status {
    if (json_text.size() > kMaxFileBytes)
      return Corrupt("the file has {} bytes, expected at most {}", json_text.size(), kMaxFileBytes);
    TIDAL_ASSIGN_OR_RETURN(const Json json, ParseJsonText(json_text));
    if (!json.is_object()) return Corrupt("expected an object, found {}", Found(&json));
    const Json* const format = Field(json, "format");
    if (format == nullptr || !format->is_number_integer() || *format != kFormat)
      return Corrupt("format is {}, expected {}", Found(format), kFormat);
    const Json* const hash = Field(json, "model_hash");
    if (!IsHash(hash))
      return Corrupt("model_hash is {}, expected 64 lower-case hex digits", Found(hash));
    if (*hash != model_hash)
      return InvalidArgument(
          "made for another model (model_hash {}, this model's is {}): remove it or calibrate anew",
          hash->get_ref<const std::string&>(), model_hash);
    return ReadEntries(json, {num_layers, num_kv_heads}, &sidecar.entries_);
  };
  const Status status = read();
  if (!status.ok()) return status.Annotate(OneLine(name));
  return sidecar;
}

const SidecarEntry* Sidecar::Find(std::string_view preset, int64_t budget) const {
  const SidecarEntry* found = nullptr;
  for (const SidecarEntry& entry : entries_) {
    if (entry.preset != preset) continue;
    if (found == nullptr || entry.budget <= budget) found = &entry;
  }
  return found;
}

std::string SidecarPath(const std::string& model_path) {
  std::error_code error;
  const std::filesystem::path path(model_path);
  if (std::filesystem::is_directory(path, error)) return (path / "model.tidal.json").string();
  constexpr std::string_view kEnding = ".gguf";
  std::string_view stem = model_path;
  if (stem.ends_with(kEnding)) stem.remove_suffix(kEnding.size());
  return std::string(stem) + ".tidal.json";
}

}  // namespace tidal
