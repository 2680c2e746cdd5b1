#include "attention/attention_plan.h"
